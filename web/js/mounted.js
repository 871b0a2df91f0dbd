// Which of our elements stands on which node. Nodes 2.0 keeps the elements of a node for the next
// one with its id: after Undo, in another tab or in a subgraph they would show, and change, a node
// that is gone.

import { everyNode, nodeIn, openGraph } from "./host.js";

const SETTLED_MS = 300; // after this the page has drawn what it loaded

/** part: has an element; kind: by which name the node knows it. */
export function belongs(part, kind) {
    part.kind = kind;
    part.element.dataset.varsr = kind;
}

/** The part in whose place this one is shown: itself, unless its node has been replaced. */
export function livePart(part) {
    return shownPart(part.element) ?? part;
}

/** Puts every node's own elements on it, and draws them as the node is now. */
export function refresh() {
    for (const element of document.querySelectorAll("[data-varsr]")) {
        const shown = shownPart(element);
        if (shown && shown.element !== element) element.replaceWith(shown.element);
    }
    for (const node of everyNode()) {
        node.varsrStrip?.restore();
        node.varsrSlider?.restore();
        node.varsrPreset?.restore();
    }
}

let timer = 0;

/** refresh(), once the page has drawn what it is loading. */
export function refreshSoon() {
    requestAnimationFrame(() => requestAnimationFrame(refresh));
    clearTimeout(timer);
    timer = setTimeout(refresh, SETTLED_MS);
}

function shownPart(element) {
    const id = element.closest("[data-node-id]")?.dataset.nodeId; // Nodes 2.0 only
    return id && nodeIn(openGraph(), id)?.[element.dataset.varsr];
}
