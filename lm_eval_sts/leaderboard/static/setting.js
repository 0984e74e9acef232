// One SFT run: its entries, and the scatter of one of them.
'use strict';

(() => {
  const { make, figure, unpack, embedded, options, switches, unique, matches, entries } = stsBoard;
  const { columns } = stsBoard.table;
  const at = (id) => document.getElementById(id);
  const Z = 1.959964;
  const { id, unit } = embedded();
  let file = null;

  const target = switches('target', show);
  const table = stsBoard.table(at('table'), {
    caption: 'Entries that predict this SFT run',
    columns: [columns.predictor(() => target.value), columns.category, columns.value, columns.bars, columns.ceiling, columns.rank, columns.rankCeiling, columns.domains],
    sorted: { id: 'correlation', descending: true },
  });
  const points = stsBoard.table(at('points'), {
    caption: 'Predicted and measured changes',
    columns: [
      { label: 'Domain', header: true, className: 'name', value: (row) => row.domain, cell: (row) => row.domain },
      { label: 'Predicted', numeric: true, className: 'number', value: (row) => row.predicted, cell: (row) => row.predicted_shown },
      { label: `Measured (${unit})`, numeric: true, className: 'number', value: (row) => row.measured, cell: (row) => row.measured_shown },
    ],
  });

  function show() {
    const rows = unpack(file.columns, file.tables[`${target.value}/raw`]).filter((row) => {
      const entry = entries[row.entry];
      return (!at('category').value || entry.category === at('category').value)
        && matches(at('search').value, `${entry.name} ${entry.title}`);
    });
    table.show([
      { title: null, rows: rows.filter((row) => !row.seen) },
      { title: 'Fitted on this SFT run: no test', rows: rows.filter((row) => row.seen) },
    ]);
    scatter();
  }

  const precise = (value) => (value === null ? stsBoard.NONE : String(Number(value.toPrecision(4))).replace('-', '−'));
  const withError = (text, error) => (error === null ? text : `${text} ± ${precise(error)}`);

  /** Points of the chosen entry, under the chosen target. */
  function pointsOf(entry) {
    const { scores, errors } = file.raw.predicted[entry.name];
    const size = target.value === 'magnitude';
    return file.raw.domains.flatMap((domain, i) => {
      if (scores[i] === null) return [];
      const predicted = size && entry.target === 'delta' ? Math.abs(scores[i]) : scores[i];
      const measured = size ? Math.abs(file.raw.measured[i]) : file.raw.measured[i];
      const error = errors ? errors[i] : null;
      const [across, up] = [error, file.raw.measured_se[i]].map((one) => Z * (one ?? 0));
      return [{
        domain, predicted, measured,
        low: size ? Math.max(0, measured - up) : measured - up, high: measured + up, left: predicted - across, right: predicted + across,
        predicted_shown: withError(precise(predicted), error), measured_shown: withError(figure(measured), file.raw.measured_se[i]),
      }];
    });
  }

  /** Names where there is room, outermost points first. */
  function label(rows, size) {
    const [x, y] = ['predicted', 'measured'].map((key) => {
      const found = rows.map((row) => row[key]);
      const [low, high] = [Math.min(...found), Math.max(...found)];
      return (row) => (high > low ? (row[key] - low) / (high - low) : 0.5);
    });
    stsBoard.label(rows, { x, y, text: (row) => row.domain, by: (row) => -Math.hypot(x(row) - 0.5, y(row) - 0.5), size });
  }

  function scatter() {
    if (!at('predictor').value) {
      at('scatter').textContent = 'No entry predicts this SFT run yet.';
      return;
    }
    const entry = entries[at('predictor').value];
    const rows = pointsOf(entry);
    points.show([{ title: null, rows }]);
    const change = `${target.value === 'magnitude' ? '|measured change|' : 'measured change'}, ${unit}`;
    const what = target.value === 'magnitude' && entry.target === 'delta' ? 'size of the prediction' : 'prediction';
    stsBoard.chart(at('scatter'), 'scatter', rows, (spec, size) => {
      label(rows, size);
      for (const layer of spec.layer) {
        if (layer.encoding.x) layer.encoding.x.title = `${what} of ${entry.name}`;
        if (layer.encoding.y) layer.encoding.y.title = change;
      }
    });
  }

  stsBoard.data(id).then((found) => {
    file = found;
    options(at('category'), unique(entries.map((entry) => entry.category)), 'any');
    const best = unpack(file.columns, file.tables[`${target.value}/raw`]).sort((a, b) => (b.value ?? -2) - (a.value ?? -2));
    at('predictor').append(...best.map((row) => make('option', { value: row.entry }, entries[row.entry].name)));
    at('category').addEventListener('change', show);
    at('search').addEventListener('input', show);
    at('predictor').addEventListener('change', scatter);
    show();
  });
})();
