// Light or dark: the system's choice, or the reader's own, kept in the browser. Runs before the page is drawn.
'use strict';

(() => {
  const KEY = 'sts-theme';

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is closed to pages of some browsers; the choice then lasts as long as the page
    }
  }

  function keep(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // as above
    }
  }

  const system = window.matchMedia('(prefers-color-scheme: dark)');
  const root = document.documentElement;

  function current() {
    return root.dataset.theme || (system.matches ? 'dark' : 'light');
  }

  function changed() {
    document.dispatchEvent(new CustomEvent('themechange'));
  }

  const chosen = stored();
  if (chosen === 'light' || chosen === 'dark') root.dataset.theme = chosen;
  system.addEventListener('change', changed);

  document.addEventListener('DOMContentLoaded', () => {
    document.getElementById('theme').addEventListener('click', () => {
      root.dataset.theme = current() === 'dark' ? 'light' : 'dark';
      keep(root.dataset.theme);
      changed();
    });
  });
})();
