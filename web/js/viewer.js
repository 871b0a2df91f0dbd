// Before and after over the whole page: every pixel, every picture of a batch.

import { Comparison } from "./comparison.js";
import { button, styled } from "./style.js";
import { text } from "./texts.js";

const STEP = 1.25; // of the zoom
const ZOOMS = [0.05, 16]; // screen pixels a side that a pixel of the picture takes
const GRIP_PX = 24; // so near the border, a drag moves it; elsewhere it moves a picture larger than the page

export class Viewer {
    /** told: see pictures.js; place: of the pair to begin with; onPlace: told when it changes. */
    constructor(told, place, border, onPlace) {
        Object.assign(this, { told, place, onPlace });
        this.zoom = 0; // screen pixels a side for a pixel of the picture; 0: all of it fits
        this.dialog = styled("dialog", "varsr-viewer");
        this.comparison = new Comparison(() => this.close());
        this.comparison.border = border;
        this.comparison.dragTo = (event) => this.dragTo(event);
        this.stage = this.comparison.element;
        this.dialog.append(this.stage, this.controls());
        this.listen();
    }

    open() {
        document.body.append(this.dialog);
        this.dialog.showModal();
        this.go(this.place);
        this.comparison.range.focus({ focusVisible: false });
    }

    close() {
        this.dialog.close();
    }

    controls() {
        this.previous = button("‹", () => this.go(this.place - 1), text("previous"));
        this.next = button("›", () => this.go(this.place + 1), text("next"));
        this.count = styled("span", "varsr-count");
        this.size = styled("span", "varsr-size");
        this.smaller = button("−", () => this.zoomTo(this.scale / STEP), text("zoom_out"));
        this.larger = button("+", () => this.zoomTo(this.scale * STEP), text("zoom_in"));
        this.percent = styled("span", "varsr-count varsr-percent");
        const fit = button(text("fit"), () => this.zoomTo(0));
        const actual = button(text("actual"), () => this.zoomTo(1));
        const close = button(text("close"), () => this.close());
        const keys = styled("span", "varsr-keys");
        keys.textContent = text("keys");
        const bar = styled("div", "varsr-bar");
        bar.append(
            ...[this.previous, this.count, this.next, this.size, keys],
            ...[this.smaller, this.percent, this.larger, fit, actual, close],
        );
        return bar;
    }

    listen() {
        this.dialog.setAttribute("aria-label", text("comparison"));
        this.dialog.addEventListener("close", () => this.dialog.remove());
        this.dialog.addEventListener("keydown", (event) => this.onKey(event));
        for (const kind of ["pointerdown", "contextmenu", "wheel"]) {
            this.dialog.addEventListener(kind, (event) => event.stopPropagation());
        }
        this.stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
        this.stage.addEventListener("pointerdown", (event) => this.takeHold(event));
        this.comparison.pictures[1].addEventListener("load", () => this.draw());
    }

    get pair() {
        return this.told.pairs[this.place];
    }

    /** Pixels of the picture: [width, height]. */
    get pixels() {
        const { naturalWidth, naturalHeight } = this.comparison.pictures[1];
        return this.pair.size ?? [naturalWidth || 1, naturalHeight || 1];
    }

    /** Screen pixels a side that a pixel of the picture takes now. */
    get scale() {
        return (this.comparison.frame.offsetWidth * devicePixelRatio) / this.pixels[0];
    }

    go(place) {
        this.place = Math.min(Math.max(place, 0), this.told.pairs.length - 1);
        this.comparison.show(this.pair, { whole: true });
        this.onPlace(this.place);
        this.draw();
    }

    /** around: a point of the page that stays where it is. */
    zoomTo(zoom, around = this.middle()) {
        const { frame } = this.comparison;
        const before = frame.getBoundingClientRect();
        const x = (around.clientX - before.left) / before.width;
        const y = (around.clientY - before.top) / before.height;
        this.zoom = zoom && Math.min(Math.max(zoom, ZOOMS[0]), ZOOMS[1]);
        this.stage.classList.toggle("varsr-zoomed", this.zoom > 0);
        const width = (this.pixels[0] * this.zoom) / devicePixelRatio;
        frame.style.width = this.zoom ? `${width}px` : "";
        const after = frame.getBoundingClientRect();
        this.stage.scrollLeft += after.left + x * after.width - around.clientX;
        this.stage.scrollTop += after.top + y * after.height - around.clientY;
        this.draw();
    }

    middle() {
        const { left, top, width, height } = this.stage.getBoundingClientRect();
        return { clientX: left + width / 2, clientY: top + height / 2 };
    }

    onWheel(event) {
        event.preventDefault();
        this.zoomTo(this.scale * (event.deltaY < 0 ? STEP : 1 / STEP), event);
    }

    /** Whether a drag that begins here moves the border, or a picture larger than the page. */
    takeHold(event) {
        const { left, width } = this.comparison.frame.getBoundingClientRect();
        const border = left + (width * this.comparison.border) / 100;
        const overflows =
            this.stage.scrollWidth > this.stage.clientWidth ||
            this.stage.scrollHeight > this.stage.clientHeight;
        this.held = overflows && Math.abs(event.clientX - border) > GRIP_PX ? event : null;
    }

    dragTo(event) {
        if (!this.held) return Comparison.prototype.dragTo.call(this.comparison, event);
        this.stage.scrollLeft -= event.clientX - this.held.clientX;
        this.stage.scrollTop -= event.clientY - this.held.clientY;
        this.held = event;
    }

    onKey(event) {
        event.stopPropagation(); // the page has other uses for most keys
        const keys = {
            PageUp: () => this.go(this.place - 1),
            PageDown: () => this.go(this.place + 1),
            " ": () => this.comparison.switchSides(),
            "+": () => this.zoomTo(this.scale * STEP),
            "-": () => this.zoomTo(this.scale / STEP),
            0: () => this.zoomTo(0),
            1: () => this.zoomTo(1),
        };
        const onButton = event.key === " " && event.target.localName === "button";
        if (!keys[event.key] || onButton || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        keys[event.key]();
    }

    draw() {
        const { pairs, total } = this.told;
        const values = { number: this.place + 1, count: pairs.length, total };
        for (const part of [this.previous, this.next, this.count]) part.hidden = total < 2;
        this.previous.disabled = this.place === 0;
        this.next.disabled = this.place === pairs.length - 1;
        this.count.textContent = text(total > pairs.length ? "some" : "number", values);
        this.count.title = total > pairs.length ? text("some_meaning", values) : "";
        const [width, height] = this.pixels;
        const share = this.comparison.pictures[1].naturalWidth / width; // of very large pictures
        const shrunk = this.comparison.isWhole && share > 0 && share < 1;
        const percent = Math.round(100 * share);
        this.size.textContent = text(shrunk ? "shrunk" : "size", { width, height, percent });
        this.percent.textContent = text("zoom", { percent: Math.round(100 * this.scale) });
        this.comparison.draw();
    }
}
