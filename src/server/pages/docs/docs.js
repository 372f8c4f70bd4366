// Draws the operations of the documents. Nothing but the documents says what there is.

const list = document.querySelector("#operations");

/** An element with a class, and what is in it. */
function make(name, style, ...content) {
  const element = document.createElement(name);
  if (style) element.className = style;
  element.append(...content.filter((it) => it !== null && it !== undefined));
  return element;
}

/** A text in which words between backticks are code. */
function prose(text = "") {
  return text.split("`").map((part, index) => (index % 2 === 1 ? make("code", "", part) : part));
}

/** What a reference leads to. */
function resolve(whole, schema) {
  if (!schema?.$ref) return schema ?? {};
  const path = schema.$ref.slice(2).split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  return { ...path.reduce((found, part) => found[part], whole), ...schema, $ref: undefined };
}

/** The name of a type, as short as a reader needs it. */
function kind(whole, schema) {
  const words = (schema.enum ?? (schema.const !== undefined ? [schema.const] : null))?.map((word) => JSON.stringify(word));
  if (words) return words.join(" | ");
  if (schema.$ref) {
    const target = resolve(whole, schema);
    return target.enum || target.const ? kind(whole, target) : schema.$ref.split("/").pop();
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return [...new Set(choices.map((choice) => kind(whole, choice)))].join(" | ");
  if (schema.allOf) return kind(whole, schema.allOf[0]);
  const types = [schema.type ?? "any"].flat();
  return types.map((type) => (type === "array" ? `${kind(whole, schema.items ?? {})}[]` : type)).join(" | ");
}

/** The schemas below one, each with fields of its own. */
function objects(whole, schema) {
  const found = resolve(whole, schema);
  const inner = [...(found.anyOf ?? []), ...(found.oneOf ?? []), ...(found.allOf ?? []), ...(found.items ? [found.items] : [])];
  return [...(found.properties ? [found] : []), ...inner.flatMap((it) => objects(whole, it))];
}

function field(whole, name, schema, isNeeded, above) {
  const target = resolve(whole, schema);
  const item = make("li", "", make("b", "", name), " ", make("span", "kind", kind(whole, schema)));
  if (isNeeded) item.append(" ", make("span", "needed", "required"));
  const text = schema.description ?? target.description;
  if (text) item.append(make("p", "", ...prose(text)));
  const below = objects(whole, schema).filter((it) => !above.some((seen) => seen.properties === it.properties));
  if (below.length > 0) {
    const more = make("details", "", make("summary", "", "fields"));
    // Drawn when it is opened: schemas can be deep.
    more.addEventListener("toggle", () => more.append(...below.map((it) => fields(whole, it, [...above, it]))), { once: true });
    item.append(more);
  }
  return item;
}

function fields(whole, schema, above = [schema]) {
  const names = Object.entries(schema.properties);
  const needed = schema.required ?? [];
  return make("ul", "fields", ...names.map(([name, it]) => field(whole, name, it, needed.includes(name), above)));
}

/** A heading, and the fields of a body or a message. */
function body(whole, title, schema) {
  const drawn = objects(whole, schema).map((it) => fields(whole, it));
  return drawn.length > 0 ? [make("h3", "", title), ...drawn] : [];
}

/** The body of a request: its fields, or its media type where it is not JSON. */
function sent(whole, content) {
  const json = content["application/json"];
  return json ? body(whole, "Body", json.schema) : [make("h3", "", "Body"), make("p", "", Object.keys(content).join(", "))];
}

function parameters(whole, operation) {
  const all = operation.parameters ?? [];
  if (all.length === 0) return [];
  const items = all.map((it) => field(whole, it.name, { ...it.schema, description: it.description }, it.required, []));
  return [make("h3", "", "Parameters"), make("ul", "fields", ...items)];
}

function answers(whole, operation) {
  const rows = Object.entries(operation.responses).flatMap(([status, answer]) => {
    const [type, content] = Object.entries(answer.content ?? {})[0] ?? [];
    const isError = Number(status) >= 400;
    const drawn = isError || type !== "application/json" ? [] : objects(whole, content.schema).map((it) => fields(whole, it));
    return [make("dt", "", status), make("dd", "", ...prose(answer.description), ...drawn)];
  });
  return [make("h3", "", "Answers"), make("dl", "answers", ...rows)];
}

/** One line that opens. `draw` makes what is inside. */
function line(method, name, summary, draw) {
  const head = make("summary", "", make("span", `method ${method}`, method), make("code", "", name), make("span", "muted", ...prose(summary)));
  const entry = make("details", "sheet", head);
  entry.dataset.text = `${method} ${name} ${summary}`.toLowerCase();
  entry.addEventListener("toggle", () => entry.append(make("div", "inside", ...draw())), { once: true });
  return entry;
}

function operation(whole, path, method, it) {
  const scopes = [...new Set((it.security ?? []).flatMap((one) => Object.values(one).flat()))];
  return line(method, path, it.summary, () => [
    ...(scopes.length > 0 ? [make("h3", "", "Scope"), make("p", "", scopes.join(" or "))] : []),
    ...parameters(whole, it),
    ...(it.requestBody ? sent(whole, it.requestBody.content) : []),
    ...answers(whole, it),
  ]);
}

function part(title, lines) {
  return make("section", "", make("h2", "", title), ...lines);
}

function drawOperations(whole) {
  document.querySelector("#about").append(...prose(`${whole.info.description}\n\nVersion ${whole.info.version}`));
  const all = Object.entries(whole.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, it]) => ({ tag: it.tags[0], line: operation(whole, path, method, it) })));
  for (const { name } of whole.tags) {
    list.append(part(name, all.filter((it) => it.tag === name).map((it) => it.line)));
  }
}

/** The messages of a channel in one direction. */
function messages(whole, channel, sent) {
  const ours = Object.values(whole.operations).filter((it) => it.channel.$ref === channel && (it.action === "send") === sent);
  return ours.flatMap((it) => it.messages).flatMap((reference) => {
    const message = resolve(whole, resolve(whole, reference));
    const name = reference.$ref.split("/").pop();
    const drawn = objects(whole, message.payload).map((it) => fields(whole, it));
    const head = message.headers ? objects(whole, message.headers).map((it) => fields(whole, it)) : [];
    return [make("li", "", make("b", "", name), make("p", "", ...prose(message.description ?? message.summary)), ...head, ...drawn)];
  });
}

function drawChannels(whole) {
  const lines = Object.entries(whole.channels).map(([key, it]) => {
    const protocol = resolve(whole, it.servers[0]).protocol;
    return line(protocol, it.address ?? key, it.summary, () => {
      const reference = `#/channels/${key}`;
      const query = Object.entries(it.bindings?.ws?.query?.properties ?? {});
      const asked = query.map(([name, schema]) => field(whole, name, schema, false, []));
      const [sent, received] = [true, false].map((isSent) => messages(whole, reference, isSent));
      return [
        ...(asked.length > 0 ? [make("h3", "", "Query"), make("ul", "fields", ...asked)] : []),
        make("h3", "", "Messages from the relay"), make("ul", "fields", ...sent),
        ...(received.length > 0 ? [make("h3", "", "Messages from a client"), make("ul", "fields", ...received)] : []),
      ];
    });
  });
  list.append(part("Messages", lines));
}

async function read(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

document.querySelector("#find").addEventListener("input", ({ target }) => {
  const words = target.value.toLowerCase().split(/\s+/);
  for (const entry of list.querySelectorAll("details.sheet")) {
    entry.hidden = !words.every((word) => entry.dataset.text.includes(word));
  }
  for (const section of list.children) {
    section.hidden = section.querySelectorAll("details.sheet:not([hidden])").length === 0;
  }
  document.querySelector("#nothing").hidden = [...list.children].some((section) => !section.hidden);
});
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());

try {
  const [requests, channels] = await Promise.all([read("openapi.json"), read("asyncapi.json")]);
  drawOperations(requests);
  drawChannels(channels);
} catch (error) {
  const problem = document.querySelector("#problem");
  problem.textContent = `The documents cannot be read: ${error.message}`;
  problem.hidden = false;
}
