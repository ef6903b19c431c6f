// The few words that all parts of the page use to talk to the document.

export const $ = (id) => document.getElementById(id);

export const show = (element, shown) => { element.hidden = !shown; };

export const say = (element, text) => {
    element.textContent = text;
    show(element, text !== "");
};

// The first element of a <template>.
export const clone = (template) => $(template).content.firstElementChild.cloneNode(true);

export const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
};

export const checked = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
