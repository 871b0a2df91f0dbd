// One style sheet for all our elements. They have a ground of their own, so that their words can be
// read whatever the palette of the page and the colour of the node; --varsr-* are ours alone.

const COLOURS = `
:root {
    --varsr-ground: #f1f3f5; --varsr-words: #1b1f24; --varsr-cell: #ffffff; --varsr-edge: #6b747d;
    --varsr-done: #9fd8b9; --varsr-kept: #dde2e6; --varsr-kept-words: #454c53;
    --varsr-first: #ffd27a; --varsr-first-words: #1d1400; --varsr-focus: #0b57d0;
}
.dark-theme {
    --varsr-ground: #1b1f23; --varsr-words: #eef1f3; --varsr-cell: #2b3036; --varsr-edge: #7d8790;
    --varsr-done: #1f6b4a; --varsr-kept: #22272c; --varsr-kept-words: #b9c1c8;
    --varsr-first: #f0b040; --varsr-first-words: #1d1400; --varsr-focus: #8ab4f8;
}`;

const STRIP = `
.varsr-strip.varsr-strip {
    display: flex; flex: none; flex-direction: column; gap: 2px; box-sizing: border-box; height: 42px;
    padding: 2px; border-radius: 5px; background: var(--varsr-ground); color: var(--varsr-words);
    font: 11px/14px sans-serif;
}
.varsr-scales { display: flex; gap: 2px; height: 22px; }
.varsr-scale {
    display: flex; flex: 1; align-items: center; justify-content: center; box-sizing: border-box;
    min-width: 0; margin: 0; padding: 0; overflow: hidden; border: 1px solid var(--varsr-edge);
    border-radius: 4px; color: var(--varsr-words); font: inherit; user-select: none;
    background: linear-gradient(to top, var(--varsr-done) var(--varsr-share, 0%), var(--varsr-cell) 0);
}
button.varsr-scale { cursor: pointer; }
button.varsr-scale:hover { border-color: var(--varsr-words); }
.varsr-kept { border-style: dashed; background: var(--varsr-kept); color: var(--varsr-kept-words); }
.varsr-first { background: var(--varsr-first); color: var(--varsr-first-words); font-weight: bold; }
.varsr-line {
    height: 14px; padding: 0 3px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
}`;

const COMPARISON = `
.varsr-stage {
    position: relative; display: grid; flex: 1; min-height: 0; overflow: hidden;
    place-content: safe center; container-type: size; cursor: ew-resize; touch-action: none;
}
.varsr-frame {
    position: relative; width: min(100cqw, 100cqh * var(--varsr-aspect, 1));
    aspect-ratio: var(--varsr-aspect, 1);
}
.varsr-picture {
    position: absolute; inset: 0; width: 100%; height: 100%; max-width: none; object-fit: fill;
    user-select: none;
}
.varsr-picture + .varsr-picture { clip-path: inset(0 0 0 var(--varsr-border, 50%)); }
.varsr-picture:first-child { clip-path: inset(0 calc(100% - var(--varsr-border, 50%)) 0 0); }
.varsr-handle {
    position: absolute; top: 0; bottom: 0; left: var(--varsr-border, 50%); width: 2px;
    margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; pointer-events: none;
}
.varsr-sign {
    position: absolute; top: 4px; padding: 0 5px; border-radius: 3px; background: #16191c;
    color: #fff; font: 11px/16px sans-serif; pointer-events: none;
}
.varsr-before { left: 4px; }
.varsr-after { right: 4px; }
.varsr-range {
    position: absolute; width: 1px; height: 1px; margin: 0; opacity: 0; pointer-events: none;
}
.varsr-range:focus-visible + .varsr-frame { outline: 2px solid var(--varsr-focus); outline-offset: -2px; }
.varsr-bar {
    display: flex; flex: none; gap: 4px; align-items: center; box-sizing: border-box;
    min-height: 26px; padding: 2px 4px; border-radius: 5px; background: var(--varsr-ground);
    color: var(--varsr-words); font: 11px/14px sans-serif; white-space: nowrap;
}
.varsr-button {
    box-sizing: border-box; min-width: 22px; height: 22px; margin: 0; padding: 0 6px;
    border: 1px solid var(--varsr-edge); border-radius: 4px; background: var(--varsr-cell);
    color: var(--varsr-words); font: inherit; cursor: pointer;
}
.varsr-button:hover { border-color: var(--varsr-words); }
.varsr-button:disabled { border-style: dotted; cursor: default; }
.varsr-button:focus-visible, button.varsr-scale:focus-visible {
    outline: 2px solid var(--varsr-focus); outline-offset: 1px;
}
.varsr-size { flex: 1; overflow: hidden; text-align: center; text-overflow: ellipsis; }
.varsr-bar [hidden] { display: none; }`;

const SLIDER = `
.varsr-slider.varsr-slider {
    display: flex; flex-direction: column; box-sizing: border-box; width: 100%; height: 100%;
    min-height: 270px; overflow: hidden; container-type: inline-size;
}
/* No higher than its picture: on a node that is higher, the space is below the bar. */
.varsr-slider .varsr-stage { max-height: calc(100cqw / var(--varsr-aspect, 1)); }
.varsr-slider.varsr-slider[hidden] { display: none; }
.varsr-note {
    flex: none; box-sizing: border-box; height: 72px; margin-top: 4px; padding: 4px 8px; overflow: auto;
    border-radius: 4px; background: #7a4a00; color: #fff; font: 12px/1.3 sans-serif;
}
.varsr-note:empty { display: none; }
/* Nodes 2.0 keeps the last preview of a run, and its size: not beside the result. */
[data-testid^="node-body-"]:has(.varsr-slider:not([hidden])) > :is(
    img[src^="blob:"], img[src^="blob:"] + div, div:has(img[src^="blob:"]):not(:has(.varsr-slider))
) { display: none; }`;

const VIEWER = `
.varsr-viewer {
    display: flex; flex-direction: column; box-sizing: border-box; width: 100vw; height: 100vh;
    max-width: none; max-height: none; margin: 0; padding: 0; border: 0; background: #0e1012;
}
.varsr-viewer .varsr-bar { gap: 8px; padding: 6px 10px; font-size: 13px; }
.varsr-viewer .varsr-button { height: 28px; padding: 0 10px; }
.varsr-viewer .varsr-size { flex: none; }
.varsr-zoomed { overflow: auto; }
.varsr-percent { min-width: 5ch; text-align: center; }
.varsr-keys { flex: 1; overflow: hidden; text-align: center; text-overflow: ellipsis; }`;

const SHEET = [COLOURS, STRIP, COMPARISON, SLIDER, VIEWER].join("\n");

function addSheet() {
    const style = document.createElement("style");
    style.id = "varsr-style";
    style.textContent = SHEET;
    document.head.append(style);
}

/** A new element of a class of ours. */
export function styled(tag, className) {
    if (!document.getElementById("varsr-style")) addSheet();
    const element = document.createElement(tag);
    element.className = className;
    return element;
}

/** A new button; label: for those who cannot see its sign. */
export function button(sign, onClick, label) {
    const made = styled("button", "varsr-button");
    made.type = "button";
    made.textContent = sign;
    if (label) made.ariaLabel = made.title = label;
    made.addEventListener("pointerdown", (event) => event.stopPropagation());
    made.addEventListener("click", onClick);
    return made;
}
