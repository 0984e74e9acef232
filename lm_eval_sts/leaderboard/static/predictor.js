// One entry: over several settings, and setting by setting.
'use strict';

(() => {
  const { make, link, embedded, unpack, options, switches, unique } = stsBoard;
  const { columns, place } = stsBoard.table;
  const at = (id) => document.getElementById(id);
  const page = embedded();
  const GROUPS = { ranked: '', oracle: 'oracles', partial: 'partial', seen: 'fitted on it' };
  const settings = Object.fromEntries(page.settings.map((setting) => [setting.name, setting]));

  const target = switches('target', show);
  const values = switches('values', show);
  const scopes = stsBoard.table(at('scopes'), {
    caption: 'This entry over several settings',
    columns: [
      { label: 'Ranked over', header: true, className: 'name', value: (row) => row.order, cell: scopeLink },
      { label: 'Group', value: (row) => GROUPS[row.group], cell: (row) => GROUPS[row.group] || 'complete' },
      { label: 'Place', numeric: true, ascending: true, className: 'number', value: (row) => row.best, cell: (row) => (row.best === null ? stsBoard.NONE : make('span', {}, place(row, row.of), ` of ${row.of}`)) },
      columns.value, columns.bars, columns.ceiling,
      { label: 'Settings', numeric: true, className: 'number', value: (row) => row.settings, cell: (row) => `${row.settings}` },
      columns.domains,
    ],
    rowClass: (row) => (row.leading ? 'leading' : null),
  });
  const singles = stsBoard.table(at('settings'), {
    caption: 'This entry setting by setting',
    columns: [
      { label: 'Setting', header: true, className: 'name', value: (row) => row.setting, cell: settingLink },
      { label: 'SFT set', value: (row) => settings[row.setting].sft_set, cell: (row) => settings[row.setting].sft_set || stsBoard.NONE },
      columns.value, columns.bars, columns.ceiling, columns.rank, columns.rankCeiling, columns.domains,
    ],
  });

  function scopeLink(row) {
    const state = new URLSearchParams({ over: `scopes/${row.scope}`, target: row.target, values: row.values });
    return link(page.scopes[row.scope].title, `index.html#${state}`);
  }

  function settingLink(row) {
    const marks = [['sealed', page.sealed.includes(row.setting), 'sealed before the outcome was published'], ['fitted', row.seen, 'fitted on it: no test']];
    return make('span', { class: 'who' }, link(row.setting, `settings/${row.setting}.html`),
      ...marks.filter(([, there]) => there).map(([text, , title]) => make('abbr', { class: 'mark', title }, text)));
  }

  function show() {
    const rows = unpack(['scope', 'target', 'values', ...page.standing], page.tables.scopes);
    for (const row of rows) Object.assign(row, { order: Object.keys(page.scopes).indexOf(row.scope), of: page.scopes[row.scope].placed[`${row.target}/${row.values}/${row.group}`] });
    scopes.show([{ title: null, rows: rows.filter((row) => row.target === target.value && row.values === values.value) }]);
    const words = at('search').value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = unpack(['setting', 'target', ...page.single], page.tables.settings).filter((row) => {
      const setting = settings[row.setting];
      return row.target === target.value
        && (!at('benchmark').value || setting.benchmark === at('benchmark').value)
        && (!at('model').value || setting.model === at('model').value)
        && words.every((word) => `${setting.name} ${setting.sft_set}`.toLowerCase().includes(word));
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
