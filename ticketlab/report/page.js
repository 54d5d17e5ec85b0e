"use strict";
// Sorting by a click on a header, and the text filter of the runs. The page is complete without either.
(function () {
  function value(row, column) {
    var cell = row.cells[column];
    return cell ? cell.textContent.trim() : "";
  }

  function amount(text) {
    return /^<? ?-?[\d.]+%?$/.test(text) ? parseFloat(text.replace("<", "")) : NaN;
  }

  function compare(a, b) {
    var x = amount(a), y = amount(b);
    return isNaN(x) || isNaN(y) ? a.localeCompare(b) : x - y;
  }

  function sort(table, column, header) {
    var descending = header.getAttribute("aria-sort") === "ascending";
    var rows = Array.prototype.slice.call(table.tBodies[0].rows);
    rows.sort(function (one, two) {
      var a = value(one, column), b = value(two, column);
      if (a === "" || b === "") { return a === b ? 0 : a === "" ? 1 : -1; }
      return descending ? compare(b, a) : compare(a, b);
    });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (cell) { cell.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
  }

  document.querySelectorAll("table.sortable").forEach(function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (header, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (header.firstChild) { button.appendChild(header.firstChild); }
      header.appendChild(button);
      button.addEventListener("click", function () { sort(table, column, header); });
    });
  });

  var filter = document.getElementById("filter");
  if (filter) {
    filter.closest("p").hidden = false;
    filter.addEventListener("input", function () {
      var wanted = filter.value.toLowerCase().split(/\s+/), shown = 0;
      Array.prototype.forEach.call(document.getElementById("run-table").tBodies[0].rows, function (row) {
        var text = row.textContent.toLowerCase();
        row.hidden = !wanted.every(function (word) { return text.indexOf(word) >= 0; });
        shown += row.hidden ? 0 : 1;
      });
      document.getElementById("filtered").textContent = shown + " shown";
    });
  }
  document.documentElement.setAttribute("data-ready", "yes");
})();
