// Before and after in one picture, with a border to drag.

import { styled } from "./style.js";

const HEIGHT = 240;
const NOTE_HEIGHT = 72;

export class Slider {
    /** addressOf: from a file that the server named to an address. */
    constructor(node, addressOf) {
        this.node = node;
        this.addressOf = addressOf;
        this.element = styled("div", "varsr-slider");
        this.before = this.picture("before");
        this.after = this.picture("after");
        this.note = styled("div", "varsr-note");
        this.note.setAttribute("role", "status");
        this.range = styled("input", "varsr-range");
        Object.assign(this.range, { type: "range", min: 0, max: 100, value: 50, step: 0.5 });
        this.range.setAttribute("aria-label", "Before and after");
        this.range.addEventListener("input", () => this.draw());
        for (const kind of ["pointerdown", "pointermove", "mousedown"]) {
            this.range.addEventListener(kind, (event) => event.stopPropagation());
        }
        this.element.append(this.before, this.after, this.note, this.range);
        this.hide();
    }

    picture(alt) {
        const picture = styled("img", "varsr-picture");
        Object.assign(picture, { alt, draggable: false });
        picture.addEventListener("error", () => this.hide()); // temporary files do not live long
        return picture;
    }

    /** before, after: files as /view takes them; note: a text about them, if any. */
    show(before, after, note = "") {
        this.node.properties.varsr_comparison = note ? [before, after, note] : [before, after];
        this.note.textContent = note;
        this.noteHeight = note ? NOTE_HEIGHT : 0;
        this.before.src = this.addressOf(before);
        this.after.src = this.addressOf(after);
        this.element.hidden = false;
        this.height = HEIGHT + this.noteHeight;
        this.draw();
        this.onResize?.();
    }

    hide() {
        this.element.hidden = true;
        this.height = 0;
        this.onResize?.();
    }

    restore() {
        const files = this.node.properties?.varsr_comparison;
        if (files) this.show(...files);
    }

    draw() {
        this.element.style.setProperty("--varsr-border", `${this.range.value}%`);
        this.element.style.setProperty("--varsr-note", `${this.noteHeight}px`);
    }
}
