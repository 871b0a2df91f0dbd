// Errors of our nodes, in the page's language. The page shows what it is told, so it is told in words
// that its user reads; the English stays in the traceback, which goes into reports.

import { translatedMessage } from "./texts.js";

const OURS = /^varsr_core\.errors\./;

/** detail: of the event "execution_error"; changed in place, before the page has seen it. */
export function translateError(detail) {
    const { exception_type: kind, exception_message: english } = detail ?? {};
    if (typeof english !== "string" || !OURS.test(kind)) return;
    const translated = translatedMessage(english);
    if (translated === english) return;
    detail.exception_message = translated;
    if (Array.isArray(detail.traceback)) detail.traceback.push(`${kind}: ${english}`);
}
