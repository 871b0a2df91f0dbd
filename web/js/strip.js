// A strip of the scales: fills as they are sampled; on a node that can resume, a click says where.

import { app, asOneStep, keepOutOfUndo } from "./host.js";
import { livePart } from "./mounted.js";
import { styled } from "./style.js";
import { text, translatedMessage } from "./texts.js";

const HEIGHT = 58; // with the space that the page leaves around it
const RESUME_WIDGET = "first_scale";
const STEPS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

export class Strip {
    /** sides: of the token maps, until the first run tells those of its model. */
    constructor(node, sides) {
        this.node = node;
        this.defaultSides = sides;
        this.height = HEIGHT;
        this.shares = [];
        this.stage = ""; // of the run under way
        this.followed = new WeakSet();
        this.cells = [];
        this.row = styled("div", "varsr-scales");
        this.line = styled("div", "varsr-line");
        this.line.setAttribute("role", "status");
        this.element = styled("div", "varsr-strip");
        this.element.setAttribute("role", "group");
        this.element.append(this.row, this.line);
        this.element.addEventListener("keydown", (event) => this.onKey(event));
        this.restore();
    }

    get sides() {
        return this.node.properties?.varsr_sides ?? this.defaultSides;
    }

    /** The widget that says where to go on; looked up anew, since loading may replace it. */
    get resume() {
        return this.node.widgets?.find((widget) => widget.name === RESUME_WIDGET);
    }

    /** Whether the strip decides: a wire to the widget has the last word. */
    get canChoose() {
        const wired = ({ widget, link }) => widget?.name === RESUME_WIDGET && link != null;
        return Boolean(this.resume) && !this.node.inputs?.some(wired);
    }

    get kept() {
        return this.canChoose ? Number(this.resume.value) || 0 : 0;
    }

    restore() {
        this.followWidget();
        this.draw();
    }

    /** told: what the node says while it works, see nodes/progress.py. */
    fill(told) {
        if (String(told.sides) !== String(this.sides)) {
            this.node.properties.varsr_sides = told.sides;
            keepOutOfUndo(this.node, ["varsr_sides"]);
        }
        this.shares = told.tiles.map((count) => count / Math.max(told.all_tiles, 1));
        this.stage = told.done === told.total ? "" : stageInWords(told);
        this.draw();
    }

    /** The run has gone on to another node, or ended. */
    rest() {
        this.stage = "";
        this.draw();
    }

    choose(scale) {
        const live = livePart(this);
        if (live !== this) return live.choose(scale);
        const { resume } = this;
        asOneStep(() => {
            resume.value = resume.value === scale ? 0 : scale;
            resume.callback?.(resume.value, app.canvas, this.node);
        });
        this.draw();
        this.node.graph?.setDirtyCanvas(true, true);
    }

    onKey(event) {
        const place = this.cells.indexOf(event.target);
        const last = this.cells.length - 1;
        const targets = { Home: 0, End: last };
        if (event.key in STEPS) targets[event.key] = Math.min(Math.max(place + STEPS[event.key], 0), last);
        if (!this.canChoose || place < 0) return;
        if (event.key in targets) this.focusOn(targets[event.key]);
        else if (event.key === "Escape" && this.kept) this.choose(this.kept);
        else if (event.key !== "Enter" && event.key !== " ") return; // which click by themselves
        else return event.stopPropagation();
        event.preventDefault();
        event.stopPropagation();
    }

    focusOn(place) {
        this.cells.forEach((cell, index) => (cell.tabIndex = index === place ? 0 : -1));
        this.cells[place].focus();
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
        const kind = this.canChoose ? "button" : "span";
        const fits = this.cells.length === this.sides.length;
        if (!fits || this.cells[0]?.localName !== kind) {
            this.cells = this.sides.map((_, scale) => this.cell(kind, scale));
            this.row.replaceChildren(...this.cells);
        }
        this.cells.forEach((cell, scale) => this.drawCell(cell, scale));
        this.element.setAttribute("aria-label", text("scales"));
        this.line.textContent = this.stage || this.meaning();
        this.line.title = this.line.textContent;
    }

    cell(kind, scale) {
        const cell = styled(kind, "varsr-scale");
        if (kind === "span") {
            cell.setAttribute("role", "img");
            return cell;
        }
        cell.type = "button";
        cell.tabIndex = scale ? -1 : 0;
        cell.addEventListener("pointerdown", (event) => event.stopPropagation());
        cell.addEventListener("click", () => this.choose(scale));
        return cell;
    }

    drawCell(cell, scale) {
        const { kept, sides } = this;
        const values = { scale: scale + 1, scales: sides.length, side: sides[scale], kept: scale };
        const key = cell.localName === "span" ? "scale" : scale ? "scale_pick" : "scale_first";
        const share = Math.round(100 * (this.shares[scale] ?? 0));
        cell.textContent = sides[scale];
        cell.title = text(key, values);
        cell.setAttribute("aria-label", cell.title);
        cell.style.setProperty("--varsr-share", `${share}%`);
        cell.classList.toggle("varsr-kept", scale < kept);
        cell.classList.toggle("varsr-first", kept > 0 && scale === kept);
        if (cell.localName === "button") {
            cell.setAttribute("aria-pressed", String(kept > 0 && scale === kept));
        }
    }

    /** What the numbers say, while nothing runs. */
    meaning() {
        if (!this.canChoose) return text("scales_meaning");
        if (!this.kept) return text("scales_pick");
        return text("scales_kept", { kept: this.kept, scales: this.sides.length });
    }
}

/** A stage that has no words of ours is shown as it is told. */
function stageInWords({ stage = "", scale, scales }) {
    const key = `stage_${stage}`;
    const words = text(key, { scale, scales });
    const whole = words !== key && (stage !== "scale" || scale != null);
    return whole ? words : translatedMessage(stage);
}
