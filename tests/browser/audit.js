// What a checker of accessibility would say first: a list of sentences, empty when all is well.
() => {
  const problems = [];
  const visible = (element) =>
    element.checkVisibility({ visibilityProperty: true }) &&
    getComputedStyle(element).clipPath === "none";
  const name = (element) =>
    `<${element.tagName.toLowerCase()} ${element.id || element.className}> "${element.textContent.trim().slice(0, 30)}"`;
  const all = (selector) => [...document.querySelectorAll(selector)];

  if (!document.documentElement.lang) problems.push("the page has no lang");
  if (!document.title.trim()) problems.push("the page has no title");
  for (const landmark of ["header", "nav[aria-label]", "main"]) {
    if (all(landmark).length !== 1) problems.push(`there is not one ${landmark}`);
  }

  const levels = all("h1, h2, h3, h4, h5, h6").map((heading) => Number(heading.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) problems.push("there is not one h1");
  levels.forEach((level, index) => {
    if (level > (levels[index - 1] ?? 0) + 1) problems.push(`an h${level} skips a level`);
  });

  const ids = all("[id]").map((element) => element.id);
  for (const id of new Set(ids.filter((id, index) => ids.indexOf(id) !== index))) {
    problems.push(`two elements have the id ${id}`);
  }
  for (const attribute of ["aria-labelledby", "for"]) {
    for (const element of all(`[${attribute}]`)) {
      const target = element.getAttribute(attribute);
      if (!document.getElementById(target)) problems.push(`${attribute}="${target}" leads nowhere`);
    }
  }

  for (const field of all("input:not([type=hidden]), select, textarea")) {
    const labelled = field.labels.length || field.ariaLabel || field.hasAttribute("aria-labelledby");
    if (!labelled) problems.push(`${name(field)} has no label`);
  }
  for (const control of all("button, a[href]")) {
    if (!control.ariaLabel && !control.textContent.trim()) problems.push(`${name(control)} has no name`);
    const { width, height } = control.getBoundingClientRect();
    if (visible(control) && Math.min(width, height) < 24) problems.push(`${name(control)} is too small`);
  }
  for (const image of all("img:not([alt])")) problems.push(`${name(image)} has no alt`);
  for (const scroller of all("*").filter(visible)) {
    const style = getComputedStyle(scroller);
    const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY);
    const more =
      scroller.scrollHeight > scroller.clientHeight + 1 || scroller.scrollWidth > scroller.clientWidth + 1;
    if (scrolls && more && scroller.tabIndex < 0 && !scroller.matches("html, body")) {
      problems.push(`${name(scroller)} scrolls, but not by keyboard`);
    }
  }
  for (const log of all("[role=log]")) {
    if (!log.ariaLabel) problems.push(`${name(log)} has no name`);
  }
  for (const state of all(".state")) {
    if (!state.querySelector("[role=status]")) problems.push("a state is not told to a screen reader");
  }

  // Contrast, WCAG 2.2 AA. A canvas turns every notation of a colour into numbers.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const pixel = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backgrounds = (element) => {
    const found = [];
    for (let each = element; each; each = each.parentElement) {
      found.unshift(getComputedStyle(each).backgroundColor);
    }
    return ["white", ...found];
  };
  const contrast = (colour, behind) => {
    const [light, dark] = [luminance(pixel(...behind, colour)), luminance(pixel(...behind))].sort(
      (a, b) => b - a,
    );
    return (light + 0.05) / (dark + 0.05);
  };
  const check = (element, style, what) => {
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = contrast(style.color, backgrounds(element));
    if (ratio < (large ? 3 : 4.5)) problems.push(`${name(element)}: ${what} has a contrast of ${ratio.toFixed(2)}`);
  };
  for (const element of all("body *").filter(visible)) {
    if (element.closest(":disabled")) continue;
    const texts = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (texts.length) check(element, getComputedStyle(element), "the text");
    if (element.placeholder) check(element, getComputedStyle(element, "::placeholder"), "the placeholder");
    if (element.matches("input, select")) {
      const behind = backgrounds(element.parentElement);
      const ratio = contrast(getComputedStyle(element).borderTopColor, behind);
      if (ratio < 3) problems.push(`${name(element)}: its edge has a contrast of ${ratio.toFixed(2)}`);
    }
  }
  return problems;
}
