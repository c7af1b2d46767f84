// What a page does beyond links, forms and htmx: it says when the server is silent.
(() => {
  const silent = (is) => {
    const notice = document.getElementById("silent");
    if (notice) notice.hidden = !is;
  };
  document.addEventListener("htmx:sendError", () => silent(true));
  document.addEventListener("htmx:timeout", () => silent(true));
  document.addEventListener("htmx:afterOnLoad", () => silent(false));
  document.addEventListener("htmx:responseError", (event) => {
    // Signed out meanwhile: the page itself says how to sign in.
    if (event.detail.xhr.status === 401) location.reload();
    else silent(true);
  });
})();
