// Light or dark: as the system has it until the button says otherwise.
import { $ } from "./dom.js";

const kKey = "lumachrome-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function mark() {
    $("theme").setAttribute("aria-pressed", isDark());
}

export function startTheme() {
    const kept = localStorage.getItem(kKey);
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
    mark();
    system.addEventListener("change", mark);
    $("theme").addEventListener("click", () => {
        document.documentElement.dataset.theme = isDark() ? "light" : "dark";
        localStorage.setItem(kKey, document.documentElement.dataset.theme);
        mark();
    });
}
