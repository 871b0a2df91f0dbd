// Before and after on a node: the border between them, the pictures of a batch, the way to full size.

import { Comparison } from "./comparison.js";
import { keepOutOfUndo, outputOf } from "./host.js";
import { PROPERTY, savedOf, toldOf, toSave } from "./pictures.js";
import { button, styled } from "./style.js";
import { text, translatedMessage } from "./texts.js";
import { Viewer } from "./viewer.js";

const HEIGHT = 290; // with the space that the page leaves around it
const NOTE_HEIGHT = 76;

export class Slider {
    constructor(node) {
        this.node = node;
        this.told = null; // what is compared, see pictures.js
        this.place = 0; // of the pair that is shown
        this.aside = false; // a run shows previews in its place
        this.element = styled("div", "varsr-slider");
        this.element.setAttribute("role", "group");
        this.comparison = new Comparison(() => this.forget());
        this.previous = button("‹", () => this.go(this.place - 1));
        this.next = button("›", () => this.go(this.place + 1));
        this.count = styled("span", "varsr-count");
        this.size = styled("span", "varsr-size");
        this.whole = button("", () => this.openViewer());
        this.bar = styled("div", "varsr-bar");
        this.bar.append(this.previous, this.count, this.next, this.size, this.whole);
        this.note = styled("div", "varsr-note");
        this.note.setAttribute("role", "status");
        this.element.append(this.comparison.element, this.bar, this.note);
        this.element.addEventListener("keydown", (event) => this.onKey(event));
        this.hide();
    }

    get visible() {
        return !this.element.hidden;
    }

    /** What a node told when it was done; for a workflow, it is kept in the node's properties. */
    tell(output) {
        const told = toldOf(output);
        if (!told) return;
        this.node.properties[PROPERTY] = toSave(told);
        this.show(told);
        keepOutOfUndo(this.node, [PROPERTY]);
    }

    /** The last run's pictures, which Undo does not take back; else those of the workflow. */
    restore() {
        const told = toldOf(outputOf(this.node)) ?? savedOf(this.node.properties?.[PROPERTY]);
        if (told && JSON.stringify(told) !== JSON.stringify(this.told)) this.show(told);
        else if (this.visible) this.draw();
    }

    show(told) {
        this.told = told;
        this.aside = false;
        this.element.hidden = false;
        this.height = HEIGHT + (told.note ? NOTE_HEIGHT : 0);
        this.maxHeight = undefined; // what more room there is
        this.go(0);
        this.onResize?.();
    }

    hide() {
        this.element.hidden = true;
        this.height = this.maxHeight = 0;
        this.onResize?.();
    }

    /** The pictures cannot be had any more. */
    forget() {
        if (this.visible) this.hide();
    }

    /** Makes room for the previews of a run. */
    stepAside() {
        if (!this.visible) return;
        this.aside = true;
        this.hide();
    }

    /** The run has ended; without pictures of its own, the earlier ones are back. */
    comeBack() {
        if (this.aside) this.show(this.told);
    }

    go(place) {
        const last = this.told.pairs.length - 1;
        this.place = Math.min(Math.max(place, 0), last);
        this.comparison.show(this.told.pairs[this.place]);
        this.draw();
    }

    onKey(event) {
        const step = { PageUp: -1, PageDown: 1 }[event.key];
        if (!step || this.told.pairs.length < 2) return;
        event.preventDefault();
        event.stopPropagation();
        this.go(this.place + step);
    }

    openViewer() {
        new Viewer(this.told, this.place, this.comparison.border, (place) => this.go(place)).open();
    }

    draw() {
        const { pairs, total, note } = this.told;
        const values = { number: this.place + 1, count: pairs.length, total };
        const several = total > 1;
        this.element.setAttribute("aria-label", text("comparison"));
        for (const part of [this.previous, this.next, this.count]) part.hidden = !several;
        this.previous.disabled = this.place === 0;
        this.next.disabled = this.place === pairs.length - 1;
        this.previous.ariaLabel = this.previous.title = text("previous");
        this.next.ariaLabel = this.next.title = text("next");
        this.count.textContent = text(total > pairs.length ? "some" : "number", values);
        this.count.title = total > pairs.length ? text("some_meaning", values) : "";
        const [width, height] = pairs[this.place].size ?? [];
        this.size.textContent = width ? text("size", { width, height }) : "";
        this.whole.textContent = text("full_size");
        this.note.textContent = note && translatedMessage(note);
        this.comparison.draw();
    }
}
