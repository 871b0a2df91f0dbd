// The pictures of a comparison, as nodes/before_after.py tells them and as workflows hold them.

export const PROPERTY = "varsr_comparison"; // in a saved workflow: [before, after, note, the rest]

/**
 * What a node told when it was done.
 * pairs: { small, full: files before and after; size: [width, height] or none }; total: how many
 * pictures there were; note: a text about them, or "".
 */
export function toldOf(output) {
    const pairs = (output?.[PROPERTY] ?? []).map(pairOf).filter(Boolean);
    const total = (output?.varsr_pictures ?? []).reduce((sum, count) => sum + count, 0);
    if (!pairs.length) return null;
    return { pairs, total: Math.max(total, pairs.length), note: output.varsr_note?.[0] ?? "" };
}

/** As a workflow saved by this version, or by an earlier one, has it. */
export function savedOf(property) {
    if (!Array.isArray(property)) return null;
    const [before, after, note, rest] = property;
    const old = before?.filename && after?.filename && [[before, after], [before, after]];
    const pairs = (rest?.pairs ?? (old ? [old] : [])).map(pairOf).filter(Boolean);
    if (!pairs.length) return null;
    return { pairs, total: rest?.total ?? pairs.length, note: typeof note === "string" ? note : "" };
}

/** The property; its beginning is all that earlier versions know. */
export function toSave({ pairs, total, note }) {
    const lists = pairs.map(({ small, full, size }) => [small, full, size]);
    return [...pairs[0].small, note, { pairs: lists, total }];
}

function pairOf(list) {
    const [small, full, size] = Array.isArray(list) ? list : [];
    const whole = small?.[0]?.filename && small[1]?.filename;
    return whole ? { small, full: full?.[1]?.filename ? full : small, size } : null;
}
