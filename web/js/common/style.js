/** The pack's style sheets, each put into the document once, when a page is first shown. */

/** @param {string} name file name below web/css */
export function useStyleSheet(name) {
  const href = new URL(`../../css/${name}`, import.meta.url).href;
  for (const sheet of document.querySelectorAll('link[rel="stylesheet"]')) {
    if (/** @type {HTMLLinkElement} */ (sheet).href === href) return;
  }
  const sheet = document.createElement("link");
  sheet.rel = "stylesheet";
  sheet.href = href;
  document.head.append(sheet);
}
