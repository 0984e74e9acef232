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
    if (adapt) adapt(spec, { width: Math.max(200, element.clientWidth - 70), height: spec.height - 60 });
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

/**
 * Names for points where they run neither into one another nor into a point, at the right or the left of theirs.
 * x, y: a point's place, each from 0 to 1; text: its name; by: sorts who comes first; size: of the plot, in pixels.
 */
stsBoard.label = (rows, { x, y, text, by, size }) => {
  const [LETTER, LINE, GAP] = [6.6, 13, 8];
  const points = rows.map((row) => [x(row) * size.width, (1 - y(row)) * size.height]);
  const taken = points.map(([left, top]) => [left - 5, left + 5, top - 5, top + 5]);
  const free = ([left, right, top, bottom], own) => left > -GAP && right < size.width + GAP
    && taken.every(([l, r, t, b], i) => i === own || right < l || left > r || bottom < t || top > b);
  for (const i of rows.map((_, index) => index).sort((a, b) => by(rows[a]) - by(rows[b]))) {
    const [left, top] = points[i];
    const width = LETTER * text(rows[i]).length;
    const boxes = {
      right: [left + GAP, left + GAP + width, top - LINE / 2, top + LINE / 2],
      left: [left - GAP - width, left - GAP, top - LINE / 2, top + LINE / 2],
    };
    const side = Object.keys(boxes).find((one) => free(boxes[one], i));
    if (side) taken.push(boxes[side]);
    rows[i].label_right = side === 'right' ? text(rows[i]) : '';
    rows[i].label_left = side === 'left' ? text(rows[i]) : '';
  }
};
