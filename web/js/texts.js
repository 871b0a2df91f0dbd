// Our texts in the page's language; English wherever a translation is missing.

import { ENGLISH } from "./english.js";
import { api, locale } from "./host.js";

const OURS = "varsr"; // in locales/*/main.json, which the server merges with those of other packs
const OUR_NODES = /^(VARSR|NSARM)_/;
const PLACE = /\{(\w+)\}/g;

let page = {}; // key -> text
let notes = {}; // English -> translation, word for word
let options = {}; // value of a choice -> its label
let patterns = []; // of messages, see compiled(); those with most words of their own first

/** Fetches what a language needs, by default the page's; nothing for English. */
export async function loadTexts(language = locale()) {
    let all = {}; // language -> texts
    if (language !== "en") {
        try {
            const response = await api.fetchApi("/i18n");
            all = await response.json();
        } catch (error) {
            console.warn("VARSR: no translations, the texts stay English.", error);
        }
    }
    const { [OURS]: found = {}, nodeDefs } = all[language] ?? {};
    page = found.page ?? {};
    options = found.options ?? {};
    const pairs = Object.entries(found.notes ?? {});
    notes = Object.fromEntries(pairs.map(([english, translation]) => [english.trim(), translation]));
    const messages = { ...tooltips(all.en?.nodeDefs, nodeDefs), ...found.messages };
    patterns = Object.entries(messages).map(compiled).filter(({ fixed }) => fixed > 0);
    patterns.sort((a, b) => b.fixed - a.fixed);
}

/** The text of a key in english.js, its {names} filled in. */
export function text(key, values = {}) {
    return filled(page[key] ?? ENGLISH[key] ?? key, values);
}

/** A note of a template, translated if it is one of ours, word for word; else as it is. */
export function translatedNote(english) {
    return notes[english.trim()] ?? english;
}

/** Labels of values that are words: value -> label; none in English. */
export function optionLabels() {
    return options;
}

/** A message of our nodes, translated if it fits a known pattern; else as it is. */
export function translatedMessage(english) {
    const message = String(english).trim();
    for (const { shape, names, translation } of patterns) {
        const match = shape.exec(message);
        if (!match) continue;
        const parts = names.map((name, place) => [name, translatedMessage(match[place + 1])]);
        return filled(translation, Object.fromEntries(parts));
    }
    return english;
}

/** Of our inputs, which messages quote: English -> translation. */
function tooltips(english = {}, translated = {}) {
    const ours = Object.entries(english).filter(([id]) => OUR_NODES.test(id));
    const pairs = ours.flatMap(([id, { inputs = {} }]) =>
        Object.entries(inputs).map(([name, { tooltip }]) => {
            return [tooltip, translated[id]?.inputs?.[name]?.tooltip ?? tooltip];
        }),
    );
    return Object.fromEntries(pairs);
}

function filled(template, values) {
    return template.replace(PLACE, (whole, name) => values[name] ?? whole);
}

/** shape: a regular expression; names: of its groups; fixed: characters outside of them. */
function compiled([english, translation]) {
    const names = [...english.matchAll(PLACE)].map(([, name]) => name);
    const words = english.split(/\{\w+\}/);
    const escaped = words.map((word) => word.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
    const shape = new RegExp(`^${escaped.join("([^]+?)")}$`);
    return { shape, names, translation, fixed: words.join("").trim().length };
}
