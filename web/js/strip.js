// A strip of the scales: fills as they are sampled; on a node that can resume, a click says where.

import { styled } from "./style.js";

const HEIGHT = 26;
const RESUME_WIDGET = "first_scale";

export class Strip {
    /** sides: of the token maps, until the first run tells those of its model. */
    constructor(node, sides) {
        this.node = node;
        this.defaultSides = sides;
        this.height = HEIGHT;
        this.element = styled("div", "varsr-strip");
        this.shares = [];
        this.followed = new WeakSet();
        this.restore();
    }

    get sides() {
        return this.node.properties?.varsr_sides ?? this.defaultSides;
    }

    /** The widget that says where to go on; looked up anew, since loading may replace it. */
    get resume() {
        return this.node.widgets?.find((widget) => widget.name === RESUME_WIDGET);
    }

    restore() {
        this.followWidget();
        const buttons = this.sides.map((side, scale) => this.button(side, scale));
        this.element.replaceChildren(...buttons);
        this.draw();
    }

    /** told: what the node says while it works, see nodes/progress.py. */
    fill(told) {
        if (String(told.sides) !== String(this.sides)) {
            this.node.properties.varsr_sides = told.sides;
            this.restore();
        }
        this.shares = told.tiles.map((count) => count / Math.max(told.all_tiles, 1));
        this.element.title = told.done === told.total ? "" : told.stage;
        this.draw();
    }

    button(side, scale) {
        const button = styled("button", "varsr-scale");
        button.type = "button";
        button.textContent = side;
        button.disabled = !this.resume;
        button.title = this.resume
            ? `Keep the ${scale} scales before this one of "tokens", and go on here`
            : `Up to ${side} x ${side} tokens a tile`;
        button.addEventListener("pointerdown", (event) => event.stopPropagation());
        button.addEventListener("click", () => this.choose(scale));
        return button;
    }

    choose(scale) {
        const { resume } = this;
        resume.value = resume.value === scale ? 0 : scale;
        resume.callback?.(resume.value);
        this.draw();
        this.node.graph?.setDirtyCanvas(true, true);
    }

    followWidget() {
        const { resume } = this;
        if (!resume || this.followed.has(resume)) return;
        this.followed.add(resume);
        const { callback } = resume;
        resume.callback = (...given) => {
            const result = callback?.apply(resume, given);
            this.draw();
            return result;
        };
    }

    draw() {
        const kept = this.resume?.value ?? 0;
        [...this.element.children].forEach((button, scale) => {
            const share = this.shares[scale] ?? 0;
            button.style.setProperty("--varsr-share", `${Math.round(100 * share)}%`);
            button.classList.toggle("varsr-kept", scale < kept);
            button.classList.toggle("varsr-first", kept > 0 && scale === kept);
            button.ariaPressed = String(kept > 0 && scale === kept);
        });
    }
}
