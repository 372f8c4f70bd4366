// A ComfyUI with its own web page before one that replays recordings, which has none:
//   node tests/browser/comfyui_server.mjs FOLDER REPLAY
// FOLDER is `static` of the package comfyui-frontend-package, REPLAY the address of the replayed server. It answers what the page
// keeps at its server (settings, workflows of the user), and passes the rest on. It ends with its standard input.

import { readFile } from "node:fs/promises";
import { createServer, request as send } from "node:http";
import { connect } from "node:net";
import { extname, join } from "node:path";

const [folder, replay] = process.argv.slice(2);
const { hostname, port } = new URL(replay);

const MEDIA_TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml",
  ".woff2": "font/woff2", ".png": "image/png", ".webp": "image/webp",
};

/** A class as `/object_info` has it. Recordings show less of it than the page needs. */
const definition = (name, output, required) => [name, {
  input: { required }, output, output_name: output, output_is_list: output.map(() => false), output_node: !output.length,
  name, display_name: name, description: "", category: "test", python_module: "nodes",
}];

/** The classes of the workflow. */
const CLASSES = Object.fromEntries([
  definition("CheckpointLoaderSimple", ["MODEL", "CLIP", "VAE"], { ckpt_name: [["tiny-sd15.safetensors"]] }),
  definition("EmptyLatentImage", ["LATENT"], { width: ["INT", {}], height: ["INT", {}], batch_size: ["INT", {}] }),
  definition("CLIPTextEncode", ["CONDITIONING"], { text: ["STRING", { multiline: true }], clip: ["CLIP"] }),
  definition("KSampler", ["LATENT"], {
    model: ["MODEL"], seed: ["INT", {}], steps: ["INT", {}], cfg: ["FLOAT", {}], sampler_name: [["euler"]], scheduler: [["normal"]],
    positive: ["CONDITIONING"], negative: ["CONDITIONING"], latent_image: ["LATENT"], denoise: ["FLOAT", {}],
  }),
  definition("VAEDecode", ["IMAGE"], { samples: ["LATENT"], vae: ["VAE"] }),
  definition("SaveImage", [], { images: ["IMAGE"], filename_prefix: ["STRING", {}] }),
]);

/** What a fresh ComfyUI without extensions answers, by path without `/api`. */
const FRESH = {
  "/users": { storage: "server", migrated: true }, "/object_info": CLASSES,
  "/extensions": [], "/embeddings": [], "/experiment/models": [], "/userdata": [], "/i18n": {}, "/features": {},
  "/workflow_templates": {}, "/global_subgraphs": {}, "/node_replacements": {},
};

/** What the page has stored: a setting by its name, a file of the user by its path. It knows its user, and draws nodes as elements. */
const settings = { "Comfy.TutorialCompleted": true, "Comfy.InstalledVersion": "1.58.1", "Comfy.VueNodes.Enabled": true };
const files = new Map();

const json = (response, value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

async function answerSettings(name, request, response) {
  if (request.method === "GET") return json(response, name ? settings[name] ?? null : settings);
  const value = JSON.parse(await body(request));
  Object.assign(settings, name ? { [name]: value } : value);
  response.end();
}

async function answerFile(name, request, response) {
  if (request.method === "POST") {
    files.set(name, await body(request));
    return json(response, { path: name, size: files.get(name).length, modified: Date.now() });
  }
  const file = files.get(name);
  response.writeHead(file ? 200 : 404).end(file);
}

async function answerStatic(path, response) {
  const file = path === "/" ? "/index.html" : decodeURIComponent(path);
  try {
    const content = await readFile(join(folder, file));
    response.setHeader("content-type", MEDIA_TYPES[extname(file)] ?? "application/octet-stream").end(content);
  } catch {
    return false;
  }
  return true;
}

function passOn(request, response) {
  const { method, url: path, headers } = request;
  const passed = send({ hostname, port, method, path, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on("error", () => response.destroy());
  request.pipe(passed);
}

async function answer(request, response) {
  const path = request.url.split("?")[0].replace(/^\/api(?=\/)/, "");
  const [, kind, name] = /^\/(settings|userdata)(?:\/(.+))?$/.exec(path) ?? [];
  if (kind === "settings") return answerSettings(name && decodeURIComponent(name), request, response);
  if (kind === "userdata" && name) return answerFile(decodeURIComponent(name), request, response);
  if (request.method === "GET" && path in FRESH) return json(response, FRESH[path]);
  if (request.method === "GET" && await answerStatic(path, response)) return;
  passOn(request, response);
}

const server = createServer(answer);
// A socket, whose frames are passed on as they are.
server.on("upgrade", (request, client, head) => {
  const upstream = connect(port, hostname, () => {
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let k = 0; k < request.rawHeaders.length; k += 2) lines.push(`${request.rawHeaders[k]}: ${request.rawHeaders[k + 1]}`);
    upstream.write(`${lines.join("\r\n")}\r\n\r\n`);
    upstream.write(head);
    upstream.pipe(client).pipe(upstream);
  });
  for (const [one, other] of [[client, upstream], [upstream, client]]) one.on("error", () => other.destroy());
});
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ event: "listening", url: `http://127.0.0.1:${server.address().port}` }));
});
process.stdin.on("end", () => process.exit()).resume();
