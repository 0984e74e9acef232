// Charts: Vega-Lite specifications from the build, with data, and the page's own colours. The interpreter runs their
// expressions, so that the page needs no eval.
'use strict';

stsBoard.chart = (() => {
  const shown = new Map();
  let library = null;

  function load() {
    library ||= Promise.all([stsBoard.script('assets/vega.js'), stsBoard.script('assets/specs.js')]);
    return library;
  }

  function config() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { labelColor: colour('muted'), titleColor: colour('text'), gridColor: colour('line'), domainColor: colour('line'), tickColor: colour('line'), labelFontSize: 12, titleFontSize: 12, titleFontWeight: 'normal' };
    return {
      background: 'transparent',
      font: style.fontFamily,
      view: { stroke: null },
      axis,
      legend: { labelColor: colour('text'), titleColor: colour('text'), labelFontSize: 12 },
      range: { category: ['predictor', 'training', 'null', 'oracle', 'published'].map(colour) },
      text: { color: colour('text') },
      rule: { color: colour('muted') },
      line: { color: colour('muted') },
      point: { color: colour('predictor') },
      mark: { color: colour('predictor') },
    };
  }

  async function redraw(element) {
    const { name, rows, adapt } = shown.get(element);
    await load();
    const spec = structuredClone(stsBoard.specs[name]);
    spec.datasets = { ...spec.datasets, rows };
    if (adapt) adapt(spec);
    await window.vegaEmbed(element, spec, {
      ast: true, actions: false, renderer: 'svg', defaultStyle: false, config: config(),
      tooltip: { disableDefaultStyle: true }, loader: { target: '_self' },
    });
  }

  /** Draws a chart, and draws it again when light turns to dark. */
  function chart(element, name, rows, adapt = null) {
    shown.set(element, { name, rows, adapt });
    return redraw(element);
  }

  document.addEventListener('themechange', () => {
    for (const element of shown.keys()) redraw(element);
  });

  return chart;
})();
