// What htmx has no attribute for: to say that the server is gone, and where the focus goes.
(() => {
  "use strict";
  let asked = "";

  const sayLost = () => {
    const notice = document.getElementById("lost-text").content.cloneNode(true);
    notice.querySelector("button").value = asked;
    document.getElementById("lost").replaceChildren(notice);
    document.getElementById("status").textContent = "";
    document.querySelectorAll(".progress").forEach((row) => row.remove());
  };

  document.addEventListener("htmx:before:request", (event) => {
    const { sourceElement, request } = event.detail.ctx;
    if (sourceElement.id === "ask") {
      asked = request.body.get("suggestion") || request.body.get("question");
    }
  });
  // A pressed suggestion goes away; what was asked with it takes its focus.
  document.addEventListener("htmx:after:process", (event) => {
    event.target.querySelector("[data-focus]")?.focus();
  });
  // No connection, or it took too long to get one.
  document.addEventListener("htmx:error", sayLost);
  // A stream that broke off: an answer that ended, or was stopped, has no progress to show.
  document.addEventListener("htmx:sse:close", (event) => {
    const stopped = event.detail.connection.abortController.signal.aborted;
    if (!stopped && document.querySelector(".progress")) {
      sayLost();
    }
  });
})();
