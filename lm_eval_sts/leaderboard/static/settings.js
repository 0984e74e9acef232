// The list of settings.
'use strict';

(() => {
  const { make, link, figure, range, embedded, options, unique } = stsBoard;
  const at = (id) => document.getElementById(id);
  const rows = embedded();

  const text = (label, key) => ({ label, value: (row) => row[key], cell: (row) => row[key] || stsBoard.NONE });
  const number = (label, key, cell = (row) => figure(row[key])) => ({ label, numeric: true, className: 'number', value: (row) => row[key], cell });

  const list = stsBoard.table(at('table'), {
    caption: 'Registered settings',
    columns: [
      { label: 'Setting', header: true, className: 'name', value: (row) => row.name, cell: (row) => link(row.name, `settings/${row.name}.html`) },
      text('Base model', 'model'),
      text('SFT set', 'sft_set'),
      text('Benchmark', 'benchmark'),
      number('Domains', 'n_domains', (row) => `${row.n_domains}`),
      number('Seeds', 'seeds', (row) => (row.seeds ? `${row.seeds}` : stsBoard.NONE)),
      number('Reliability', 'reliability', (row) => make('span', { class: 'r' }, figure(row.reliability), ' ', make('span', { class: 'range' }, range(row.low, row.high)))),
      number('Perfect, |Δ|', 'magnitude'),
      number('Perfect, Δ', 'delta'),
      number('Entries', 'entries', (row) => `${row.entries}`),
    ],
  });

  function show() {
    const words = at('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    list.show([{
      rows: rows.filter((row) => (!at('benchmark').value || row.benchmark === at('benchmark').value)
        && (!at('model').value || row.model === at('model').value)
        && words.every((word) => `${row.name} ${row.model} ${row.sft_set}`.toLowerCase().includes(word))),
    }]);
  }

  for (const [id, key] of [['benchmark', 'benchmark'], ['model', 'model']]) {
    options(at(id), unique(rows.map((row) => row[key])), 'any');
    at(id).addEventListener('change', show);
  }
  at('search').addEventListener('input', show);
  show();
})();
