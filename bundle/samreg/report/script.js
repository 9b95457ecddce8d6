"use strict";

// Sliders: the curtain's line and the fade follow one number. The pictures themselves can be dragged too.
for (const group of document.querySelectorAll("[data-compare]")) {
  const input = group.querySelector("input");
  const curtain = group.classList.contains("curtain");
  const show = () => {
    group.style.setProperty("--at", input.value / 100);
    const over = curtain ? 100 - input.value : Number(input.value);
    input.setAttribute("aria-valuetext", `${over} % ${group.dataset.over.toLowerCase()}`);
  };
  input.addEventListener("input", show);
  for (const stage of group.querySelectorAll(".stage")) {
    const follow = (event) => {
      const box = stage.getBoundingClientRect();
      input.value = Math.round((100 * (event.clientX - box.left)) / box.width);
      show();
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) follow(event);
    });
  }
  show();
}

// Pointing at a region or a line of the table marks the pair everywhere.
const mark = (pair) => {
  for (const element of document.querySelectorAll("[data-pair]")) {
    element.classList.toggle("marked", pair !== null && element.dataset.pair === pair);
  }
};
const section = document.getElementById("pairs");
if (section) {
  section.addEventListener("pointerover", (event) => {
    const element = event.target.closest("[data-pair]");
    mark(element ? element.dataset.pair : null);
  });
  section.addEventListener("pointerleave", () => mark(null));
}
