// The entries of a form: one for each property of a JSON Schema.

import { make } from "./elements.js";
import { text } from "./texts.js";

/** What stands for a number of its own for each job. */
const RANDOM = "random";

/** An entry. `value` is that of its parameter, `undefined` where it is left to the workflow, a `BigInt`, or a `File`. */
export class Entry {
  constructor(name, schema, isRequired) {
    this.name = name;
    this.isRandom = schema.default === RANDOM && Array.isArray(schema.anyOf);
    this.schema = this.isRandom ? schema.anyOf[0] : schema;
    this.isRequired = isRequired;
    this.error = make("p", [], { className: "error", id: `${name}-error`, hidden: true });
    const hint = [schema.description, this.limits()].filter(Boolean).join(" · ");
    this.hint = make("p", hint, { className: "hint", id: `${name}-hint`, hidden: !hint });
    this.control = this.makeControl(schema);
    Object.assign(this.control, { id: `p-${name}`, name });
    this.isTouched = false;
    this.control.addEventListener("input", () => {
      this.isTouched = true;
    });
    this.control.setAttribute("aria-describedby", `${name}-hint ${name}-error`);
    if (isRequired) this.control.setAttribute("aria-required", "true");
    this.element = make("div", this.parts(), { className: `entry ${this.width()}` });
  }

  parts() {
    const title = this.name.replaceAll("_", " ");
    const said = `${title[0].toUpperCase()}${title.slice(1)}`;
    const label = make("label", this.isRequired ? [said, make("span", ` · ${text("required")}`, { className: "muted" })] : said, { htmlFor: `p-${this.name}` });
    if (this.schema.type === "boolean") {
      label.prepend(this.control);
      label.className = "check";
      return [label, this.hint, this.error];
    }
    return [label, make("span", [this.control, this.offered ?? ""], { className: "field" }), this.picture ?? "", this.hint, this.error];
  }

  makeControl({ default: usual }) {
    const { type, format, examples, ...schema } = this.schema;
    if (schema.enum) {
      const options = schema.enum.map((choice) => make("option", String(choice), { value: JSON.stringify(choice), selected: choice === usual }));
      if (usual === undefined) options.unshift(make("option", "", { value: "" }));
      return make("select", options);
    }
    if (type === "boolean") return make("input", [], { type: "checkbox", checked: usual === true });
    if (type === "integer" || type === "number") {
      const { minimum = "", maximum = "", multipleOf = type === "integer" ? 1 : "any", "x-step": step = multipleOf } = schema;
      const value = this.isRandom ? "" : usual ?? "";
      return make("input", [], { type: "number", min: minimum, max: maximum, step, value, inputMode: type === "integer" ? "numeric" : "decimal", placeholder: this.isRandom ? text("random") : "" });
    }
    if (format === "image") return this.makePicture();
    if (format === "multiline") return make("textarea", [], { rows: 3, value: usual ?? "" });
    const input = make("input", [], { type: "text", autocomplete: "off", spellcheck: false, value: usual ?? "" });
    if (examples) {
      this.offered = make("datalist", examples.map((example) => make("option", [], { value: example })), { id: `${this.name}-offered` });
      input.setAttribute("list", this.offered.id);
    }
    return input;
  }

  makePicture() {
    this.picture = make("img", [], { alt: "", hidden: true });
    const input = make("input", [], { type: "file", accept: "image/*" });
    input.addEventListener("change", () => {
      URL.revokeObjectURL(this.picture.src);
      const [file] = input.files;
      this.picture.hidden = !file;
      if (file) this.picture.src = URL.createObjectURL(file);
    });
    return input;
  }

  /** How wide it is: texts of several lines and pictures want all, names of files more than numbers. */
  width() {
    const { type, format } = this.schema;
    if (format === "multiline") return "wide";
    return type === "string" ? "half" : "";
  }

  limits() {
    const { minimum, maximum } = this.schema;
    // The limits of a seed are not worth showing.
    if (this.isRandom || minimum === undefined || maximum === undefined) return "";
    return text("from_to", { from: minimum, to: maximum });
  }

  get value() {
    const { control, schema } = this;
    // A value that nobody has chosen would count before that of another parameter for the same input.
    if (!this.isTouched && !(control.type === "checkbox" && this.isRequired)) return undefined;
    if (control.type === "checkbox") return control.checked;
    if (control.type === "file") return control.files[0];
    if (control.type === "number") {
      // What is not a number is sent as it is, so that the relay says what is wrong with it.
      if (control.validity.badInput) return control.value || "?";
      if (control.value === "") return undefined;
      const number = Number(control.value);
      // A `Number` would be rounded.
      return /^-?\d+$/u.test(control.value) && !Number.isSafeInteger(number) ? BigInt(control.value) : number;
    }
    if (schema.enum) return control.value === "" ? undefined : JSON.parse(control.value);
    // An empty text is a text, but not the name of a file.
    return control.value === "" && schema.minLength ? undefined : control.value;
  }

  /** Shows what is wrong with it; nothing if that is empty. */
  refuse(why) {
    this.error.textContent = why;
    this.error.hidden = !why;
    this.control.setAttribute("aria-invalid", String(Boolean(why)));
  }
}
