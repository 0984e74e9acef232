// The list of SFT runs.
'use strict';

(() => {
  const { make, link, figure, range, embedded, options, unique, matches } = stsBoard;
  const at = (id) => document.getElementById(id);
  const rows = embedded();

  const text = (label, key) => ({ label, value: (row) => row[key], cell: (row) => row[key] || stsBoard.NONE });
  const number = (label, key, cell = (row) => figure(row[key])) => ({ label, numeric: true, className: 'number', value: (row) => row[key], cell });

  const list = stsBoard.table(at('table'), {
    caption: 'SFT runs with measured outcomes',
    columns: [
      { label: 'SFT run', header: true, className: 'name', value: (row) => row.name, cell: (row) => link(row.name, `settings/${row.name}.html`) },
      { label: 'World', value: (row) => row.world, cell: (row) => make('span', { class: `badge ${row.world}`, title: stsBoard.worlds[row.world] }, row.world) },
      text('Base model', 'model'),
      text('SFT set', 'sft_set'),
      text('Benchmark', 'benchmark'),
      number('Domains', 'n_domains', (row) => `${row.n_domains}`),
      number('Seeds', 'seeds', (row) => (row.seeds ? `${row.seeds}` : stsBoard.NONE)),
      number('Reliability', 'reliability', (row) => make('span', { class: 'r' }, figure(row.reliability), ' ', make('span', { class: 'range' }, range(row.low, row.high)))),
      number('Noise ceiling, |Δ|', 'magnitude'),
      number('Noise ceiling, Δ', 'delta'),
      number('Entries', 'entries', (row) => `${row.entries}`),
    ],
  });

  function show() {
    list.show([{
      rows: rows.filter((row) => (!at('benchmark').value || row.benchmark === at('benchmark').value)
        && (!at('model').value || row.model === at('model').value)
        && matches(at('search').value, `${row.name} ${row.model} ${row.sft_set}`)),
    }]);
  }

  for (const [id, key] of [['benchmark', 'benchmark'], ['model', 'model']]) {
    options(at(id), unique(rows.map((row) => row[key])), 'any');
    at(id).addEventListener('change', show);
  }
  at('search').addEventListener('input', show);
  show();
})();
