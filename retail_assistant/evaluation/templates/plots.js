(() => {
  const place = document.getElementById("figures");
  if (!place) return;
  const figures = JSON.parse(place.textContent);
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = layout => {
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"),
      dividercolor: colour("--line"), tickcolor: colour("--line") };
    return { ...layout, font: { color: colour("--soft"), size: 12.5, family: getComputedStyle(document.body).fontFamily },
      hoverlabel: { ...layout.hoverlabel, bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } };
  };
  const draw = () => document.querySelectorAll("[data-figure]").forEach(place => {
    const figure = figures[place.dataset.figure];
    Plotly.react(place, figure.data, themed(figure.layout), { responsive: true, displayModeBar: false });
  });
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
