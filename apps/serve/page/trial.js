// One participant before one image after the other: Yes or No, by button or key, with undo and pause.
import { $ } from "./dom.js";

export class Trial {
    #options;
    #shownAt = null; // null: the image is not there yet, and no answer counts

    // answers: those given so far, added to; order: [{photo, variant}]; imageOf(trial) -> URL; changed(): after each answer.
    constructor(options) {
        this.#options = options;
    }

    // Until all is answered or the participant pauses.
    run() {
        const stop = new AbortController();
        const on = (target, event, act) => target.addEventListener(event, act, { signal: stop.signal });
        on($("trial-yes"), "click", () => this.#answer(true));
        on($("trial-no"), "click", () => this.#answer(false));
        on($("trial-undo"), "click", () => this.#undo());
        on($("trial-pause"), "click", () => $("trial").close());
        on(window, "keydown", (event) => this.#key(event));
        $("trial-question").textContent = this.#options.question;
        $("trial").showModal();
        this.#next();
        return new Promise((resolve) => on($("trial"), "close", () => { stop.abort(); resolve(); }));
    }

    #key(event) {
        if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
        const act = { y: () => this.#answer(true), n: () => this.#answer(false), Backspace: () => this.#undo() }[
            event.key.length === 1 ? event.key.toLowerCase() : event.key];
        if (!act) return;
        event.preventDefault();
        act();
    }

    async #next() {
        const { answers, order, imageOf } = this.#options;
        const position = answers.length;
        if (position === order.length) return $("trial").close();
        $("trial-bar").value = position / order.length;
        $("trial-count").textContent = `${position + 1} of ${order.length}`;
        $("trial-undo").disabled = position === 0;
        this.#shownAt = null;
        const image = $("trial-image");
        image.alt = `Image ${position + 1}`;
        image.src = imageOf(order[position]);
        await image.decode().catch(() => {}); // a newer image took its place
        if (answers.length !== position) return;
        this.#shownAt = performance.now();
        image.dataset.position = position;
    }

    #answer(natural) {
        if (this.#shownAt === null) return;
        const { answers, order, changed } = this.#options;
        answers.push({ ...order[answers.length], natural, milliseconds: Math.round(performance.now() - this.#shownAt) });
        changed();
        this.#next();
    }

    #undo() {
        if (this.#options.answers.pop() === undefined) return;
        this.#options.changed();
        this.#next();
    }
}
