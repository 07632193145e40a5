"use strict";
// Ranks again for another lambda: S = mean + lambda * SD over the same bootstrap columns. As in planners.advice, what is
// indicated and better than watching comes first, then watching, then the rest; for the page's own lambda the parts are
// those of the plan. Everything is on the page; nothing is fetched.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const slider = document.getElementById("lambda");
  if (!data || !data.candidates || !slider) return;
  const rows = data.candidates, k = data.k, count = data.resamples;
  const field = document.getElementById("lambda-number"), said = document.getElementById("said");
  const body = document.querySelector("#ranking tbody"), cards = document.querySelector(".cards");

  const columns = Uint8Array.from(atob(data.columns), (c) => c.charCodeAt(0));
  for (const row of rows) {
    row.means = new Float64Array(count);
    row.sds = new Float64Array(count);
    for (let r = 0; r < count; r++) {
      let sum = 0, square = 0;
      for (let j = 0; j < k; j++) sum += row.risks[columns[r * k + j]];
      const mean = sum / k;
      for (let j = 0; j < k; j++) { const d = row.risks[columns[r * k + j]] - mean; square += d * d; }
      row.means[r] = mean;
      row.sds[r] = k > 1 ? Math.sqrt(square / (k - 1)) / data.c4 : 0;
    }
  }

  const quantile = (sorted, q) => {
    const at = q * (sorted.length - 1), low = Math.floor(at), high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
  };
  const interval = (draws) => {
    if (k < 2) return [NaN, NaN];
    const sorted = Float64Array.from(draws).sort();
    return [quantile(sorted, 0.025), quantile(sorted, 0.975)];
  };
  const minus = (a, b) => a.map((x, i) => x - b[i]);

  function rank(lambda) {
    for (const row of rows) {
      row.score = row.mean + lambda * (row.sd === null ? 0 : row.sd);
      row.draws = row.means.map((m, r) => m + lambda * row.sds[r]);
    }
    const watch = rows.findIndex((row) => row.watch);
    for (const row of rows) {
      const better = lambda === data.lambda ? row.better :
        row.indicated && !row.watch && !row.n_nonfinite && interval(minus(row.draws, rows[watch].draws))[1] < 0;
      row.part = better ? 0 : row.watch ? 1 : 2;
    }
    const order = rows.map((_, i) => i).sort((a, b) => rows[a].part - rows[b].part ||
      rows[a].n_nonfinite - rows[b].n_nonfinite || rows[a].score - rows[b].score || rows[a].mean - rows[b].mean ||
      Number(!rows[a].watch) - Number(!rows[b].watch) || (rows[a].name < rows[b].name ? -1 : 1));
    const group = new Array(rows.length).fill(0);
    let number = 0;
    for (const leader of order) {
      if (group[leader]) continue;
      number += 1;
      for (const other of order) {
        if (group[other]) continue;
        const [low, high] = interval(minus(rows[other].draws, rows[leader].draws));
        if (!(low > 0 || high < 0)) group[other] = number;
      }
    }
    return { order, group };
  }

  const digits = (x) => (Number.isFinite(x) ? x.toFixed(3) : "-");
  const span = ([low, high]) => (Number.isFinite(low) ? `${digits(low)} to ${digits(high)}` : "-");
  const across = (x) => data.bar.left + (Math.max(0, Math.min(x, data.bar.most)) / data.bar.most) * data.bar.width;

  function show(lambda) {
    const { order, group } = rank(lambda);
    const best = order[0], tied = order.filter((i) => group[i] === group[best]);
    order.forEach((i, at) => {
      const row = rows[i], line = body.querySelector(`tr[data-i="${i}"]`), inBest = group[i] === group[best];
      const place = (inBest ? 1 : at + 1) + (inBest && tied.length > 1 ? "=" : "");
      const ci = interval(row.draws), apart = interval(minus(row.draws, rows[best].draws));
      line.querySelector(".place").textContent = place;
      line.querySelector(".s").textContent = digits(row.score);
      line.querySelector(".s-ci").textContent = span(ci);
      line.querySelector(".d").textContent = i === best ? "best" : (row.score - rows[best].score >= 0 ? "+" : "") + digits(row.score - rows[best].score);
      line.querySelector(".d-ci").textContent = i === best ? "" : span(apart);
      line.classList.toggle("best", inBest);
      line.classList.toggle("below", row.part === 2);
      line.querySelector(".score").setAttribute("cx", across(row.score));
      const whisker = line.querySelector(".whisker");
      if (Number.isFinite(ci[0])) { whisker.setAttribute("x1", across(ci[0])); whisker.setAttribute("x2", across(ci[1])); }
      body.append(line);
      const card = cards && cards.querySelector(`[data-i="${i}"]`);
      if (card) {
        card.querySelector(".place").textContent = place + ".";
        card.classList.toggle("best", inBest);
        cards.append(card);
      }
    });
    const others = tied.length - 1;
    said.textContent = `For lambda ${lambda}: ${rows[best].name}` +
      (others ? `, not to be told from ${others} other${others > 1 ? "s" : ""} (marked =).` : ".");
    const mark = document.querySelector("#lines .now");
    if (mark) {
      const f = data.lines, x = f.left + (Math.min(lambda, f.most) / f.most) * f.width;
      mark.setAttribute("x1", x);
      mark.setAttribute("x2", x);
    }
    document.body.dataset.lambda = lambda;
  }

  function set(text, remember) {
    const asked = Number(text);
    if (text === "" || !Number.isFinite(asked) || asked < 0 || asked > 100) {
      said.textContent = `Lambda is "${text}"; expected a number from 0 to 100; the ranking below is unchanged.`;
      return;
    }
    slider.value = asked;
    if (field.value !== String(asked)) field.value = asked;
    show(asked);
    if (remember) history.replaceState(null, "", "#lambda=" + asked);
  }
  slider.addEventListener("input", () => set(slider.value, true));
  field.addEventListener("change", () => set(field.value, true));
  document.getElementById("lambda-reset").addEventListener("click", () => set(String(data.lambda), true));
  const asked = () => (location.hash.match(/^#lambda=(.+)$/) || [])[1];
  window.addEventListener("hashchange", () => asked() && set(asked(), false));
  set(asked() || String(data.lambda), false);
})();
