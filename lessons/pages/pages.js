// What the theme leaves without a name or out of a keyboard's reach.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
function reach() {
  for (const wide of document.querySelectorAll(".formula, .md-typeset__scrollwrap"))
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
    else wide.removeAttribute("tabindex");
}
addEventListener("load", reach);
addEventListener("resize", reach);
