// Style and script of the report page. Curve colours c0..c7 belong to chart.hpp.
#pragma once

namespace lumachrome {

inline constexpr const char* kReportStyle = R"css(
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#1c2126;--soft:#5d6670;--line:#e2e3e0;
--c0:#2762b3;--c1:#cc5a1d;--c2:#2b8a5a;--c3:#8550b5;--c4:#a87b06;--c5:#0d8390;--c6:#b83a6f;
--c7:#66707a}
@media(prefers-color-scheme:dark){:root{--page:#121518;--card:#1a1e23;--ink:#e4e7ea;--soft:#98a2ac;
--line:#2c3238;--c0:#6aa5ee;--c1:#ef8b55;--c2:#5bbf8d;--c3:#b98ae0;--c4:#d5ae45;--c5:#4bbcc8;
--c6:#e57ba6;--c7:#9aa4ae}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"Helvetica Neue",sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:36px 24px 48px}
h1{font-size:26px;line-height:1.25;font-weight:650;margin:0;overflow-wrap:anywhere}
h2{font-size:18px;font-weight:650;margin:44px 0 4px}
h3{font-size:14px;font-weight:600;margin:0}
p{margin:0 0 14px;max-width:92ch}
.soft,p.note,figcaption,.tile small{color:var(--soft)}
.lead{margin:6px 0 22px}
.card,.tile{background:var(--card);border:1px solid var(--line);border-radius:8px}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:12px}
.tile{padding:12px 16px 13px}
.tile span,.tile small{display:block;font-size:13px;line-height:1.4}
.tile b{display:block;font-size:25px;line-height:1.3;font-weight:600;letter-spacing:-.01em}
em{font-style:normal;color:var(--soft)}
.tile b em{font-weight:400;font-size:15px;letter-spacing:0}
.charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:16px}
p.note{margin-top:10px}
figure{margin:0}
.chart{padding:14px 16px 12px;display:flex;flex-direction:column}
figcaption{font-size:13px;line-height:1.45;margin-top:6px}
.legend{display:flex;flex-wrap:wrap;gap:0 16px;font-size:13px;color:var(--soft);min-height:20px}
.legend span{overflow-wrap:anywhere}
.key{display:inline-block;width:16px;border-top:2.5px solid;margin-right:6px;vertical-align:middle}
.key.dashed{border-top-style:dashed}
.key.marked{position:relative}
.key.marked::after{content:"";position:absolute;left:5px;top:-5px;width:7px;height:7px;
border-radius:50%;background:currentColor}
.plot{position:relative;margin-top:4px}
svg{display:block;overflow:visible;width:100%;height:auto;touch-action:pan-y}
svg text{font-size:11.5px;fill:var(--soft)}
.grid{stroke:var(--line)}.axis,.tick{stroke:var(--soft);stroke-opacity:.6}
.curve{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke:currentColor}
.curve.faint{stroke-width:1;opacity:.28}
.curve.dashed{stroke-dasharray:5 4;stroke-width:1.5}
.curve.marked{stroke-width:1.5}
circle{fill:currentColor}
.cross{stroke:var(--soft);stroke-dasharray:2 3}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}
.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}
.tip{position:absolute;top:0;pointer-events:none;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:5px 9px;font-size:12px;line-height:1.45;white-space:nowrap;
box-shadow:0 2px 8px #0002}
.tip b{font-weight:600}
.wide{overflow-x:auto}
.sheet{padding:12px}
.sheet img{display:block;width:auto;max-width:100%;height:auto;margin:0 auto}
.sheet .wide{background:#fff;border-radius:4px;padding:6px}
.sheet figcaption{margin:0 0 6px}
.strip{margin-top:16px;padding:12px}
.strip ol{list-style:none;margin:0;padding:0;min-width:620px}
.strip li{display:grid;grid-template-columns:86px minmax(0,1fr);gap:14px;align-items:center;
padding:4px 0}
.strip li span{text-align:right;white-space:nowrap;font-size:13px;color:var(--soft)}
.strip li:last-child span{color:var(--ink);font-weight:600}
.strip img{display:block;width:100%;height:auto;background:#fff}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:6px 12px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
tr:last-child>td,tr:last-child>th{border-bottom:0}
thead th{font-weight:600;font-size:13px;color:var(--soft);vertical-align:bottom}
th:first-child,td.text{text-align:left}
tbody th{font-weight:400}
td.text{white-space:normal;color:var(--soft);min-width:230px}
.bars td div{display:grid;grid-template-columns:minmax(52px,1fr) 58px;gap:10px;align-items:center}
.bar{position:relative;height:10px;background:var(--line);border-radius:2px;overflow:hidden}
.bar i{position:absolute;top:0;bottom:0;background:var(--c0)}
.classes{columns:3;column-gap:28px;padding:12px 16px}
.class{display:grid;grid-template-columns:minmax(0,1fr) 88px 74px;gap:10px;font-size:14px;
break-inside:avoid;padding:2px 0;align-items:center}
.class .name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.class small{text-align:right;color:var(--soft);font-size:13px;white-space:nowrap}
details{margin-top:12px}summary{cursor:pointer;color:var(--soft);font-size:14px;padding:4px 0}
dl{margin:0;columns:3;column-gap:28px;padding:12px 16px;font-size:14px}
dl div{display:flex;justify-content:space-between;gap:14px;break-inside:avoid;padding:2px 0;
border-bottom:1px solid var(--line)}
dt{color:var(--soft);white-space:nowrap}
dd{margin:0;overflow-wrap:anywhere;text-align:right;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,
monospace;font-size:13px}
footer{margin-top:40px;font-size:13px;color:var(--soft)}
@media(max-width:900px){.tiles{grid-template-columns:repeat(2,1fr)}.classes,dl{columns:2}}
@media(max-width:680px){main{padding:22px 14px 36px}.charts{grid-template-columns:minmax(0,1fr)}
.classes,dl{columns:1}h1{font-size:22px}h2{margin-top:34px}.tile{padding:10px 12px}.tile b{font-size:21px}
svg text{font-size:14px}td.text{min-width:340px}.chart{padding:12px 10px 10px}.tiles{gap:8px}
.sheet .wide img{max-width:none;width:auto;min-width:100%;max-height:none}}
@media print{.card,.tile{break-inside:avoid}}
)css";

// The pointer's step, and the value each curve has there, from the points that are drawn.
inline constexpr const char* kReportScript = R"js(
for (const svg of document.querySelectorAll('.chart svg')) {
  const numbers = key => svg.dataset[key].split(' ').map(Number);
  const [left, top, right, bottom] = numbers('box'), [x0, x1] = numbers('x'), [y0, y1] = numbers('y');
  const curves = [...svg.querySelectorAll('.curve')].filter(c => c.dataset.name).map(c => ({
    name: c.dataset.name, color: c.classList[1],
    points: c.getAttribute('points').split(' ').map(p => p.split(',').map(Number))}));
  const figure = v => Math.abs(v) >= 1000 ? Math.round(v).toLocaleString('en')
    : v !== 0 && Math.abs(v) < 1e-3 ? v.toExponential(1) : String(Number(v.toPrecision(3)));
  const line = document.createElementNS(svg.namespaceURI, 'line');
  line.setAttribute('class', 'cross');
  line.setAttribute('y1', top);
  line.setAttribute('y2', bottom);
  const tip = document.createElement('div');
  tip.className = 'tip';
  const hide = () => { line.remove(); tip.remove(); };
  const add = (text, color) => {
    const row = document.createElement('div');
    if (color) {
      const key = document.createElement('i');
      key.className = 'key ' + color;
      row.append(key);
    }
    row.append(text);
    tip.append(row);
  };
  svg.addEventListener('pointermove', event => {
    const frame = svg.getBoundingClientRect(), scale = frame.width / svg.viewBox.baseVal.width;
    const pointer = (event.clientX - frame.left) / scale;
    if (pointer < left || pointer > right) return hide();
    const near = curves.map(c => c.points.reduce((a, b) =>
      Math.abs(b[0] - pointer) < Math.abs(a[0] - pointer) ? b : a));
    const at = near.reduce((a, b) => Math.abs(b[0] - pointer) < Math.abs(a[0] - pointer) ? b : a)[0];
    tip.replaceChildren();
    add('step ' + Math.round(x0 + (at - left) / (right - left) * (x1 - x0)).toLocaleString('en'));
    curves.forEach((c, i) => {
      const value = y0 + (bottom - near[i][1]) / (bottom - top) * (y1 - y0);
      add(c.name + '  ' + figure(svg.dataset.log === '1' ? 10 ** value : value), c.color);
    });
    line.setAttribute('x1', at);
    line.setAttribute('x2', at);
    svg.append(line);
    svg.parentNode.append(tip);
    const width = tip.offsetWidth, x = at * scale;
    tip.style.left = (x + 12 + width > frame.width ? x - 12 - width : x + 12) + 'px';
    tip.style.top = top * scale + 'px';
  });
  svg.addEventListener('pointerleave', hide);
}
)js";

}  // namespace lumachrome
