// All photos at their own size, in one ZIP file made here.
import { $, element, show } from "./dom.js";
import { save } from "./files.js";
import { zip } from "./zip.js";

// photos(): those to colour; render(photo, signal) -> {blob, name}.
export function startBatch({ photos, render }) {
    let running = null;

    async function run(signal) {
        const todo = photos();
        const files = [];
        let failed = 0;
        const fail = (text) => $("batch-failures").append(element("li", { textContent: text }));
        const tell = (text) => { $("batch-text").textContent = text; };
        for (const [i, photo] of todo.entries()) {
            tell(`${i + 1} of ${todo.length}: ${photo.name}`);
            $("batch-bar").value = i / todo.length;
            try {
                files.push(await render(photo, signal));
            } catch (error) {
                if (signal.aborted) return tell("Cancelled.");
                ++failed;
                fail(`${photo.name}: ${error.message}`);
            }
        }
        $("batch-bar").value = 1;
        if (files.length > 0) {
            tell("Packing…");
            try {
                save(await zip(files), "lumachrome.zip");
            } catch (error) {
                return tell(error.message);
            }
        }
        tell(`${files.length} of ${todo.length} photos are in lumachrome.zip` + (failed > 0 ? `, ${failed} failed.` : "."));
    }

    $("batch-cancel").addEventListener("click", () => running?.abort());
    $("download-all").addEventListener("click", async () => {
        running = new AbortController();
        $("download-all").disabled = true;
        $("batch-failures").replaceChildren();
        show($("batch"), true);
        show($("batch-cancel"), true);
        await run(running.signal);
        show($("batch-cancel"), false);
        $("download-all").disabled = false;
    });
}
