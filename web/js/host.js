// Every service of ComfyUI's page that ours uses. Versions differ: what may be missing is asked for
// with "?.", and without it only a convenience is lost.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

export { api, app };

const PREVIEW_WIDGET = "$$canvas-image-preview";

export function rootGraph() {
    return app.rootGraph ?? app.graph;
}

/** The graph that is open: the whole one, or the inside of a subgraph. */
export function openGraph() {
    return app.canvas?.graph ?? rootGraph();
}

/** A node of a graph; ids are numbers in some versions and texts in others. */
export function nodeIn(graph, id) {
    return graph?.getNodeById(id) ?? graph?.getNodeById(Number(id)) ?? null;
}

/** The node of an execution id: "7", or "12:7" for node 7 in subgraph node 12. */
export function nodeOf(executionId) {
    let graph = rootGraph();
    let node = null;
    for (const id of String(executionId).split(":")) {
        node = nodeIn(graph, id);
        graph = node?.subgraph;
    }
    return node;
}

/** All nodes, those inside subgraphs too. */
export function everyNode() {
    const root = rootGraph();
    const graphs = [root, ...(root?.subgraphs?.values?.() ?? [])];
    return graphs.flatMap((graph) => graph?._nodes ?? []);
}

/** Of a file that the server named. */
export function addressOf(file) {
    return api.apiURL(`/view?${new URLSearchParams(file)}`);
}

export function locale() {
    return app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en";
}

/** What the node last told the page, in this tab of the page; the page keeps it through Undo. */
export function outputOf(node) {
    const inRoot = !node.graph || node.graph === rootGraph();
    return app.nodeOutputs?.[inRoot ? `${node.id}` : `${node.graph.id}:${node.id}`];
}

/** Undo takes all of `change` back at once. */
export function asOneStep(change) {
    app.canvas?.emitBeforeChange?.();
    try {
        change();
    } finally {
        app.canvas?.emitAfterChange?.();
    }
}

/** Makes properties that a run has set, and the size they need, no step of Undo's. */
export function keepOutOfUndo(node, names) {
    const state = app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.activeState;
    const inRoot = node.graph === rootGraph();
    const inside = (subgraph) => String(subgraph.id) === String(node.graph?.id);
    const graph = inRoot ? state : state?.definitions?.subgraphs?.find?.(inside);
    const saved = graph?.nodes?.find?.((one) => String(one.id) === String(node.id));
    if (!saved) return;
    saved.properties ??= {};
    for (const name of names) {
        saved.properties[name] = JSON.parse(JSON.stringify(node.properties[name]));
    }
    saved.size = [...node.size];
}

/** Takes the last preview of a run off a node of the classic canvas, which would keep it. */
export function dropPreview(node) {
    node.imgs = undefined;
    const place = node.widgets?.findIndex((widget) => widget.name === PREVIEW_WIDGET) ?? -1;
    if (place < 0) return;
    node.widgets[place].onRemove?.();
    node.widgets.splice(place, 1);
}
