// One style sheet for all our elements, in the colours of the page's theme.

const SHEET = `
.varsr-strip { display: flex; flex: none; gap: 2px; height: 22px !important; }
.varsr-scale {
    flex: 1; min-width: 0; padding: 0; overflow: hidden; border: 1px solid var(--border-color, #555);
    border-radius: 4px; color: var(--input-text, #ddd); font: 11px sans-serif; cursor: pointer;
    background: linear-gradient(to top, #3a7d5d var(--varsr-share, 0%), var(--comfy-input-bg, #222) 0);
}
.varsr-scale:disabled { cursor: default; }
.varsr-scale:not(:disabled):hover { border-color: var(--input-text, #ddd); }
.varsr-kept { opacity: 0.5; }
.varsr-first { border-color: #f0b040; color: #f0b040; }
.varsr-slider { position: relative; width: 100%; height: 100%; min-height: 230px; overflow: hidden; }
.varsr-slider[hidden] { display: none; }
.varsr-picture {
    position: absolute; inset: 0; width: 100%; height: calc(100% - var(--varsr-note, 0px));
    object-fit: contain; user-select: none;
}
.varsr-picture + .varsr-picture { clip-path: inset(0 0 0 var(--varsr-border, 50%)); }
.varsr-slider::after {
    content: ""; position: absolute; top: 0; bottom: var(--varsr-note, 0px); left: var(--varsr-border, 50%); width: 2px;
    background: #fff; box-shadow: 0 0 3px #000; pointer-events: none;
}
.varsr-note {
    position: absolute; inset: auto 0 0; height: var(--varsr-note, 0px); box-sizing: border-box;
    padding: 4px 8px; overflow: auto; z-index: 1; border-radius: 4px;
    background: #7a4a00; color: #fff; font: 12px/1.3 sans-serif;
}
.varsr-note:empty { display: none; }
.varsr-range {
    position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
}`;

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
