// Two pictures in one place, with a border to drag between them: left of it before, right of it after.

import { addressOf } from "./host.js";
import { styled } from "./style.js";
import { text } from "./texts.js";

const DRAG_PX = 4; // a shorter way of the pointer is a click

export class Comparison {
    /** onLost: called when a picture cannot be had; the server keeps them only for a while. */
    constructor(onLost) {
        this.border = 50; // percent of the picture's width
        this.element = styled("div", "varsr-stage");
        this.range = styled("input", "varsr-range");
        Object.assign(this.range, { type: "range", min: 0, max: 100, step: 0.5 });
        this.range.addEventListener("input", () => this.moveTo(Number(this.range.value)));
        this.frame = styled("div", "varsr-frame");
        this.pictures = ["before", "after"].map((side) => this.picture(side, onLost));
        this.signs = ["before", "after"].map((side) => styled("span", `varsr-sign varsr-${side}`));
        this.handle = styled("div", "varsr-handle");
        this.frame.append(...this.pictures, ...this.signs, this.handle);
        this.element.append(this.range, this.frame);
        this.listen();
    }

    picture(side, onLost) {
        const picture = styled("img", "varsr-picture");
        picture.draggable = false;
        picture.addEventListener("error", onLost);
        picture.addEventListener("load", () => side === "after" && this.fitFrame());
        return picture;
    }

    /** small, full: of files before and after; size: [width, height] of the picture, if known. */
    show({ small, full, size }, { whole = false } = {}) {
        this.shown = { small, full };
        this.isWhole = small[1].filename === full[1].filename;
        this.size = size;
        this.pictures.forEach((picture, side) => {
            picture.src = addressOf(small[side]);
            if (whole && full[side].filename !== small[side].filename) this.bringWhole(full, side);
        });
        this.fitFrame();
        this.draw();
    }

    /** The small copy stays in place until the whole picture is there. */
    async bringWhole(full, side) {
        const whole = new Image();
        whole.src = addressOf(full[side]);
        try {
            await whole.decode();
        } catch {
            return; // the small one is better than none
        }
        if (this.shown.full !== full) return;
        this.pictures[side].src = whole.src;
        if (side === 1) this.isWhole = true;
    }

    /** The frame has the picture's shape, so that the border ends where the picture ends. */
    fitFrame() {
        const { naturalWidth, naturalHeight } = this.pictures[1];
        const [width, height] = this.size ?? [naturalWidth || 1, naturalHeight || 1];
        this.element.style.setProperty("--varsr-aspect", width / height);
    }

    listen() {
        const { element } = this;
        element.addEventListener("pointerdown", (event) => this.press(event));
        element.addEventListener("pointermove", (event) => this.drag(event));
        element.addEventListener("pointerup", (event) => this.release(event));
        element.addEventListener("pointercancel", () => (this.pressed = null));
        element.addEventListener("mousedown", (event) => event.stopPropagation());
    }

    press(event) {
        if (event.button) return;
        event.stopPropagation(); // or the page would drag the node
        this.element.setPointerCapture?.(event.pointerId);
        this.pressed = { x: event.clientX, y: event.clientY, dragged: false };
    }

    drag(event) {
        const { pressed } = this;
        if (!pressed) return;
        event.stopPropagation();
        pressed.dragged ||= Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) >= DRAG_PX;
        if (pressed.dragged) this.dragTo(event);
    }

    release(event) {
        if (this.pressed && !this.pressed.dragged) this.switchSides();
        if (this.pressed) event.stopPropagation();
        this.pressed = null;
    }

    dragTo(event) {
        const { left, width } = this.frame.getBoundingClientRect();
        this.moveTo((100 * (event.clientX - left)) / width);
    }

    /** All of one picture, then all of the other. */
    switchSides() {
        this.moveTo(this.border > 0 ? 0 : 100);
    }

    moveTo(percent) {
        this.border = Math.min(Math.max(percent, 0), 100);
        this.draw();
    }

    draw() {
        this.element.style.setProperty("--varsr-border", `${this.border}%`);
        this.element.title = text("drag");
        this.range.value = this.border;
        this.range.setAttribute("aria-label", text("border"));
        const percent = Math.round(this.border);
        this.range.setAttribute("aria-valuetext", text("border_at", { percent }));
        ["before", "after"].forEach((side, index) => {
            this.pictures[index].alt = this.signs[index].textContent = text(side);
        });
        this.signs[0].hidden = this.border === 0;
        this.signs[1].hidden = this.border === 100;
    }
}
