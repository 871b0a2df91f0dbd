// Choices of our nodes in words of the page's language. A value stays the English word that it is:
// in saved workflows, in the prompt, and for the tooltips and help pages that quote it.

import { optionLabels } from "./texts.js";

const OURS = /^(VARSR|NSARM)_/;
const FILE = /\.(safetensors|sft|pth|pt|ckpt)$/i;
const made = new WeakSet(); // functions of ours, so that no other is taken away

/** Both canvases ask a choice's widget for labels; labels: value -> label, none in English. */
export function labelOptions(node, labels = optionLabels()) {
    if (!OURS.test(node.comfyClass)) return;
    for (const { type, options } of node.widgets ?? []) {
        if (type !== "combo" || !Array.isArray(options?.values)) continue;
        if (made.has(options.getOptionLabel)) delete options.getOptionLabel;
        if (options.getOptionLabel || !isLabelled(options.values, labels)) continue;
        options.getOptionLabel = (value) => labels[value] ?? String(value ?? "");
        made.add(options.getOptionLabel);
    }
}

/** A list of files keeps the page's own menu, which can be searched by typing. */
function isLabelled(values, labels) {
    return values.some((value) => value in labels) && !values.some((value) => FILE.test(value));
}
