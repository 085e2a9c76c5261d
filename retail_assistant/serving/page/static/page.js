// What htmx has no attribute for: to say that the server is gone, and where the focus goes.
(() => {
  "use strict";
  let asked = "";
  let reading = null; // the stream whose end has not been asked for

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
    if (sourceElement.matches("#ask, .stop")) {
      reading = null;
    }
  });
  document.addEventListener("htmx:sse:after:connection", (event) => {
    reading = event.detail.connection;
  });
  // A stream that broke off: an answer that is whole has no progress to show.
  document.addEventListener("htmx:sse:close", (event) => {
    if (event.detail.connection === reading && document.querySelector(".progress")) {
      sayLost();
    }
  });
  // No connection, or it took too long to get one.
  document.addEventListener("htmx:error", sayLost);
  // A pressed suggestion goes away; what was asked with it takes its focus.
  document.addEventListener("htmx:after:process", (event) => {
    event.target.querySelector("[data-focus]")?.focus();
  });
})();
