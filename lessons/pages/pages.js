// What the theme leaves without a name or out of a keyboard's reach.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
for (const wide of document.querySelectorAll(".formula, .md-typeset__table"))
  if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
