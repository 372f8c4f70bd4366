// The arrow keys on the lanes: a lane is one stop of the tabulator.

/** Moves along a lane and between lanes from now on. */
export function useLaneKeys(lanes) {
  lanes.addEventListener("keydown", (event) => {
    const link = event.target.closest(".blk a");
    if (!link || !event.key.startsWith("Arrow")) return;
    event.preventDefault();
    const lane = link.closest(".lane");
    const links = [...lane.querySelectorAll(".blk a")];
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = along ? links[links.indexOf(link) + along] : ofNextLane(lane, event.key === "ArrowDown");
    if (!next) return;
    link.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

function ofNextLane(lane, isDown) {
  const follow = (element) => (isDown ? element.nextElementSibling : element.previousElementSibling);
  for (let next = follow(lane); next; next = follow(next)) {
    const link = next.querySelector(".blk:not(.ended) a") ?? next.querySelector(".blk a");
    if (link) return link;
  }
  return null;
}
