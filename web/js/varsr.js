// What the nodes show in the page. Nothing here is needed for them to run.

import { translateError } from "./errors.js";
import { api, app, dropPreview, everyNode, nodeOf } from "./host.js";
import { belongs, refresh, refreshSoon } from "./mounted.js";
import { NODES } from "./nodes.js";
import { labelOptions } from "./options.js";
import { Preset } from "./preset.js";
import { Slider } from "./slider.js";
import { Strip } from "./strip.js";
import { loadTexts, translatedNote } from "./texts.js";

const NOTE_NODES = new Set(["MarkdownNote", "Note"]);

/** Adds an element of ours below a node's widgets; it is no part of the saved workflow. */
function addElement(node, name, part) {
    const widget = node.addDOMWidget(name, `varsr_${name}`, part.element, {
        serialize: false,
        hideOnZoom: false,
        hideInPanel: true, // which would draw nothing, and give the element the panel's width
        margin: 8,
        getMinHeight: () => part.height,
        getMaxHeight: () => part.maxHeight,
    });
    widget.serialize = false; // of widgets_values; the option above is about the queued graph
    part.onResize = () => makeRoom(node);
    return widget;
}

/** For all that a node shows now; it never gets smaller. */
function makeRoom(node) {
    const [width, height] = node.computeSize();
    node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
    node.graph?.setDirtyCanvas(true, true);
}

function addStrip(node, scales) {
    node.varsrStrip = new Strip(node, scales);
    belongs(node.varsrStrip, "varsrStrip");
    const widget = addElement(node, "scales", node.varsrStrip);
    widget.computeLayoutSize = undefined; // it never grows
    widget.computeSize = (width) => [width ?? 0, node.varsrStrip.height];
}

function addSlider(node) {
    const slider = (node.varsrSlider = new Slider(node));
    belongs(slider, "varsrSlider");
    addElement(node, "comparison", slider);
    const { onDrawBackground } = node;
    node.onDrawBackground = function (...given) {
        if (slider.visible) dropPreview(node); // the classic canvas would keep it beside the result
        return onDrawBackground?.apply(this, given);
    };
}

/** Values and properties of a loaded or copied node are there only when it has been configured. */
function followChanges(node) {
    for (const event of ["onAdded", "onConfigure", "onConnectionsChange"]) {
        const earlier = node[event];
        node[event] = function (...given) {
            const result = earlier?.apply(this, given);
            refreshSoon();
            return result;
        };
    }
}

/** Notes of our templates, in the page's language; a graph has them inside its subgraphs too. */
function translateNotes(graph) {
    for (const node of graph?.nodes ?? []) {
        const [note] = (NOTE_NODES.has(node.type) && node.widgets_values) || [];
        if (typeof note === "string") node.widgets_values[0] = translatedNote(note);
    }
    for (const subgraph of graph?.definitions?.subgraphs ?? []) translateNotes(subgraph);
}

/** Shows all in the language that was chosen meanwhile. */
function translate() {
    everyNode().forEach((node) => labelOptions(node));
    refresh();
}

function listen() {
    api.addEventListener("varsr.progress", ({ detail }) => nodeOf(detail.node)?.varsrStrip?.fill(detail));
    api.addEventListener("b_preview_with_metadata", ({ detail }) => {
        nodeOf(detail.displayNodeId)?.varsrSlider?.stepAside();
    });
    api.addEventListener("executing", () => everyNode().forEach((node) => node.varsrStrip?.rest()));
    api.addEventListener("executed", ({ detail }) => {
        nodeOf(detail.display_node ?? detail.node)?.varsrSlider?.tell(detail.output);
    });
    for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
        api.addEventListener(end, () => everyNode().forEach((node) => node.varsrSlider?.comeBack()));
    }
    // With "capture" before all listeners of the page, whenever they were added.
    api.addEventListener("execution_error", ({ detail }) => translateError(detail), { capture: true });
    api.addEventListener("graphChanged", refreshSoon); // by Undo and Redo too
    app.canvas.canvas.addEventListener("litegraph:set-graph", refreshSoon);
    app.ui?.settings?.addEventListener?.("Comfy.Locale.change", ({ detail }) => {
        loadTexts(detail?.value).then(translate); // the setting itself still has the earlier language
    });
}

app.registerExtension({
    name: "varsr.nodes",

    init: () => loadTexts(), // the page waits for it before it makes nodes

    nodeCreated(node) {
        labelOptions(node);
        const { scales, slider, preset } = NODES[node.comfyClass] ?? {};
        if (scales) addStrip(node, scales);
        if (slider) addSlider(node);
        if (preset) node.varsrPreset = new Preset(node, preset);
        if (!scales && !slider && !preset) return;
        followChanges(node);
        makeRoom(node); // at once, as when it is loaded: or Undo would find another size
    },

    beforeConfigureGraph: translateNotes,

    loadedGraphNode(node) {
        node.varsrStrip?.restore();
        node.varsrSlider?.restore();
        node.varsrPreset?.restore();
        if (node.varsrStrip) refreshSoon();
    },

    setup: listen,
});
