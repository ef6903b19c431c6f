// The page of `lumachrome serve`: colour.js colours photos, study.js asks people about them.
import * as api from "./api.js";
import { ColourView } from "./colour.js";
import { $, element, show } from "./dom.js";
import { connectChoosers, onDrop, onPaste } from "./files.js";
import { StudyView } from "./study.js";
import { startTheme } from "./theme.js";

const kViews = ["colour", "study"];
const tab = (view) => $(`tab-${view}`);
const shown = () => kViews.find((view) => !$(view).hidden);

function open(view) {
    for (const other of kViews) {
        show($(other), other === view);
        tab(other).setAttribute("aria-selected", other === view);
        tab(other).tabIndex = other === view ? 0 : -1;
    }
    history.replaceState(null, "", view === "colour" ? "/" : `#${view}`);
}

function startTabs() {
    for (const [i, view] of kViews.entries()) {
        tab(view).addEventListener("click", () => open(view));
        tab(view).addEventListener("keydown", (event) => {
            if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
            const next = kViews[(i + 1) % kViews.length];
            open(next);
            tab(next).focus();
        });
    }
    open(kViews.includes(location.hash.slice(1)) ? location.hash.slice(1) : "colour");
}

startTheme();
startTabs();
try {
    const model = await api.model();
    const colour = new ColourView(model);
    const study = new StudyView(model);
    connectChoosers();
    onDrop((files, target) => {
        if (shown() === "study") study.add(files);
        else if (target.closest?.("#style-section")) colour.addStyles(files);
        else colour.add(files);
    });
    onPaste((files) => (shown() === "study" ? study : colour).add(files));
    document.documentElement.dataset.ready = "";
} catch (error) {
    const textContent = `${error.message} Reload the page to try again.`;
    document.body.prepend(element("p", { className: "notice", role: "alert", textContent }));
}
