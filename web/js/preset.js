// Greys out the widgets that a preset sets: while one is chosen, their values have no effect.

const PRESET_WIDGET = "preset";
const CUSTOM = "custom"; // sets nothing

export class Preset {
    /** names: of the widgets that presets set. */
    constructor(node, names) {
        this.node = node;
        this.names = new Set(names);
        this.followed = new WeakSet();
        this.restore();
    }

    /** The widgets as they are now; loading may have replaced them. */
    restore() {
        const widget = this.node.widgets?.find(({ name }) => name === PRESET_WIDGET);
        if (!widget) return;
        if (!this.followed.has(widget)) this.follow(widget);
        this.draw(widget.value);
    }

    follow(widget) {
        this.followed.add(widget);
        const { callback } = widget;
        widget.callback = (...given) => {
            const result = callback?.apply(widget, given);
            this.draw(widget.value);
            return result;
        };
    }

    draw(preset) {
        for (const widget of this.node.widgets) {
            if (this.names.has(widget.name)) widget.disabled = preset !== CUSTOM;
        }
        this.node.graph?.setDirtyCanvas(true, true);
    }
}
