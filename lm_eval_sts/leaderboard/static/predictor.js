// One entry: over several SFT runs, and run by run.
'use strict';

(() => {
  const { make, link, embedded, unpack, options, switches, unique, matches } = stsBoard;
  const { columns, place } = stsBoard.table;
  const at = (id) => document.getElementById(id);
  const page = embedded();
  const GROUPS = { ranked: '', oracle: 'oracle', partial: 'partial', seen: 'fitted on it' };
  const settings = Object.fromEntries(page.settings.map((setting) => [setting.name, setting]));

  const target = switches('target', show);
  const values = switches('values', show);
  const scopes = stsBoard.table(at('scopes'), {
    caption: 'This entry over several SFT runs',
    columns: [
      { label: 'Ranked over', header: true, className: 'name', value: (row) => row.order, cell: scopeLink },
      { label: 'Group', value: (row) => GROUPS[row.group], cell: (row) => GROUPS[row.group] || 'complete' },
      { label: 'Place', numeric: true, ascending: true, className: 'number', value: (row) => row.best, cell: (row) => (!row.best ? stsBoard.NONE : make('span', {}, place(row, row.of), ` of ${row.of}`)) },
      columns.value, columns.bars, columns.ceiling,
      columns.runs,
      columns.domains,
    ],
    rowClass: (row) => (row.group !== 'ranked' ? null : row.leading ? 'leading' : row.best === 1 ? 'possible' : null),
  });
  const singles = stsBoard.table(at('settings'), {
    caption: 'This entry run by run',
    columns: [
      { label: 'SFT run', header: true, className: 'name', value: (row) => row.setting, cell: settingLink },
      { label: 'SFT set', value: (row) => settings[row.setting].sft_set, cell: (row) => settings[row.setting].sft_set || stsBoard.NONE },
      columns.value, columns.bars, columns.ceiling, columns.rank, columns.rankCeiling, columns.domains,
    ],
  });

  function scopeLink(row) {
    const state = new URLSearchParams({ over: `scopes/${row.scope}`, target: row.target, values: row.values });
    const raw = row.values === values.value ? null : make('abbr', { class: 'mark', title: 'cannot be double-centred' }, 'raw');
    return make('span', { class: 'who' }, link(page.titles[row.scope], `index.html?${state}`), raw);
  }

  function settingLink(row) {
    const marks = [['sealed', page.sealed.includes(row.setting), 'sealed before the outcome was published'], ['fitted', row.seen, 'fitted on it: no test']];
    return make('span', { class: 'who' }, link(row.setting, `settings/${row.setting}.html`),
      ...marks.filter(([, there]) => there).map(([text, , title]) => make('abbr', { class: 'mark', title }, text)));
  }

  function show() {
    const rows = unpack(['scope', 'target', 'values', ...page.standing], page.tables.scopes);
    for (const row of rows) row.order = Object.keys(page.titles).indexOf(row.scope);
    const placed = rows.filter((row) => row.target === target.value);
    const has = new Set(placed.filter((row) => row.values === values.value).map((row) => row.scope));
    scopes.show([{ title: null, rows: placed.filter((row) => row.values === values.value || !has.has(row.scope)) }]); // else raw
    const found = unpack(['setting', 'target', ...page.single], page.tables.settings).filter((row) => {
      const setting = settings[row.setting];
      return row.target === target.value
        && (!at('benchmark').value || setting.benchmark === at('benchmark').value)
        && (!at('model').value || setting.model === at('model').value)
        && matches(at('search').value, `${setting.name} ${setting.sft_set}`);
    });
    singles.show([{ title: null, rows: found }]);
  }

  for (const id of ['benchmark', 'model']) {
    options(at(id), unique(page.settings.map((setting) => setting[id])), 'any');
    at(id).addEventListener('change', show);
  }
  at('search').addEventListener('input', show);
  show();
})();
