// What the nodes show in the page. Nothing here is needed for them to run.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { NODES } from "./nodes.js";
import { Slider } from "./slider.js";
import { Strip } from "./strip.js";

/** The node of an execution id: "7", or "12:7" for node 7 in subgraph node 12. */
function nodeOf(executionId) {
    let graph = app.rootGraph ?? app.graph;
    let node = null;
    for (const id of String(executionId).split(":")) {
        node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
        graph = node?.subgraph;
    }
    return node;
}

/** Adds an element of ours below a node's widgets; it is no part of the saved workflow. */
function addElement(node, name, part) {
    const widget = node.addDOMWidget(name, `varsr_${name}`, part.element, {
        serialize: false,
        hideOnZoom: false,
        getMinHeight: () => part.height,
        getMaxHeight: () => part.height,
    });
    widget.serialize = false; // of widgets_values; the option above is about the queued graph
    part.onResize = () => {
        const [width, height] = node.computeSize();
        node.setSize([Math.max(width, node.size[0]), Math.max(height, node.size[1])]);
        node.graph?.setDirtyCanvas(true, true);
    };
}

app.registerExtension({
    name: "varsr.nodes",

    nodeCreated(node) {
        const { scales, slider } = NODES[node.comfyClass] ?? {};
        if (scales) {
            node.varsrStrip = new Strip(node, scales);
            addElement(node, "scales", node.varsrStrip);
        }
        if (slider) {
            node.varsrSlider = new Slider(node, (file) => api.apiURL(`/view?${new URLSearchParams(file)}`));
            addElement(node, "comparison", node.varsrSlider);
        }
    },

    /** Values and properties of a loaded or copied node are there only now. */
    loadedGraphNode(node) {
        node.varsrStrip?.restore();
        node.varsrSlider?.restore();
    },

    setup() {
        api.addEventListener("varsr.progress", ({ detail }) => {
            nodeOf(detail.node)?.varsrStrip?.fill(detail);
        });
        api.addEventListener("executed", ({ detail }) => {
            const { varsr_comparison: files, varsr_note: notes } = detail.output ?? {};
            if (!files) return;
            const [before, after] = files; // there are more if the node ran for a list
            nodeOf(detail.display_node ?? detail.node)?.varsrSlider?.show(before, after, notes?.[0]);
        });
    },
});
