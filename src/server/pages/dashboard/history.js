// The history by itself: it goes on while the reader scrolls.

import { drawConnection, onFind, useFrame } from "./frame.js";
import { HistoryList } from "./list.js";
import { follow } from "./live.js";
import { onDraw, onEnd } from "./store.js";
import { showTitle } from "./tab.js";
import { text } from "./texts.js";

useFrame();
const list = new HistoryList({ page: 60, isEndless: true });
onFind((query) => list.search(query));
onDraw(drawConnection);
onEnd((job) => list.add(job));
showTitle(text("history"));
follow();
list.load().then(() => document.getElementById("main").removeAttribute("aria-busy"));
