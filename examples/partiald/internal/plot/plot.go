// Package plot draws plots as SVG, on the server and without a framework. Colours and fonts come from the style sheet of
// the page that they are in, by class, so that they follow light and dark and no style stands inline. Every plot is one
// picture with one sentence for those who do not see it; the numbers belong into a table beside it.
//
//	<svg class="plot" role="img" aria-label="…">  axis, grid and text: .axis, .gridline, .tick
//	series: .s0 … .s7 (lines have .line as well, areas .area)
//
// Equal input gives equal text. All functions are safe for concurrent use. Values that are no number are gaps.
package plot

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Colours is how many classes for series there are, from s0 on.
const Colours = 8

// canvas collects the text of a picture.
type canvas struct{ strings.Builder }

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(&c.Builder, format, args...) }

// n writes a coordinate with one digit behind the point, and none where it is 0.
func n(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func open(width, height float64, class, label string) *canvas {
	c := &canvas{}
	c.add(`<svg class="plot%s" viewBox="0 0 %s %s" role="img" aria-label="%s">`, class, n(width), n(height), html.EscapeString(label))
	return c
}

func (c *canvas) close() template.HTML {
	c.WriteString("</svg>")
	return template.HTML(c.String()) //nolint:gosec // numbers, and text that was escaped
}

func (c *canvas) text(x, y float64, class, anchor, s string) {
	if anchor != "" {
		anchor = ` text-anchor="` + anchor + `"`
	}
	c.add(`<text class="%s" x="%s" y="%s"%s>%s</text>`, class, n(x), n(y), anchor, html.EscapeString(s))
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Ticks returns round numbers from 0 to a little more than most, about so many, for an axis. It has two at least.
func Ticks(most float64, about int) []float64 {
	if !finite(most) || most <= 0 {
		most = 1
	}
	raw := most / float64(max(1, about))
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := unit * 10
	for _, m := range []float64{1, 2, 2.5, 5} {
		if m*unit >= raw*0.999 {
			step = m * unit
			break
		}
	}
	var out []float64
	for i := 0; i < 100; i++ {
		v := step * float64(i)
		out = append(out, v)
		if v >= most*0.9999 {
			break
		}
	}
	return out
}

// byteTicks are those of an axis of bytes: round numbers of the unit that fits.
func byteTicks(most float64, about int) []float64 {
	unit := 1.0
	for most/unit >= 1024 && unit < 1<<40 {
		unit *= 1024
	}
	out := Ticks(most/unit, about)
	for i := range out {
		out[i] *= unit
	}
	return out
}

// Axis says how values of an axis are written, and whether they are bytes, which have round numbers of their own. A nil
// Label writes the number.
type Axis struct {
	Label func(float64) string
	Bytes bool
}

func (a Axis) ticks(most float64, about int) []float64 {
	if a.Bytes {
		return byteTicks(most, about)
	}
	return Ticks(most, about)
}

func (a Axis) label(v float64) string {
	if a.Label != nil {
		return a.Label(v)
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

// Series is a line. Y has a value for each X of the plot.
type Series struct {
	Name  string
	Class string // as in "s3"; "" takes the next
	Y     []float64
	Area  bool // filled to the axis
}

// Lines is a plot of lines over a common X, which grows.
type Lines struct {
	Label         string // for those who do not see it
	Width, Height float64
	X             []float64
	XTicks        []Tick
	Y             Axis
	Series        []Series
}

// Tick is a mark on the axis of X.
type Tick struct {
	At    float64
	Label string
}

// The room around a plot.
const (
	left, right, top, bottom = 62.0, 14.0, 12.0, 26.0
)

// SVG draws it.
func (p Lines) SVG() template.HTML {
	c := open(p.Width, p.Height, "", p.Label)
	most := 0.0
	for _, s := range p.Series {
		for _, v := range s.Y {
			if finite(v) {
				most = max(most, v)
			}
		}
	}
	ticks := p.Y.ticks(most, 4)
	most = ticks[len(ticks)-1]
	w, h := p.Width-left-right, p.Height-top-bottom
	y := func(v float64) float64 { return top + h*(1-v/most) }
	c.grid(ticks, p.Y, p.Width, y)
	first, last := 0.0, 1.0
	if len(p.X) > 0 {
		first, last = p.X[0], p.X[len(p.X)-1]
	}
	if last <= first {
		last = first + 1
	}
	x := func(v float64) float64 { return left + w*(v-first)/(last-first) }
	for _, t := range p.XTicks {
		if t.At >= first && t.At <= last {
			c.text(x(t.At), p.Height-8, "tick", "middle", t.Label)
		}
	}
	for i, s := range p.Series {
		class := s.Class
		if class == "" {
			class = "s" + strconv.Itoa(i%Colours)
		}
		c.path(class, s, p.X, x, y)
	}
	c.axis(p.Width, p.Height)
	return c.close()
}

func (c *canvas) grid(ticks []float64, a Axis, width float64, y func(float64) float64) {
	for _, t := range ticks {
		c.add(`<path class="gridline" d="M%s %sH%s"/>`, n(left), n(y(t)), n(width-right))
		c.text(left-8, y(t)+4, "tick", "end", a.label(t))
	}
}

func (c *canvas) axis(width, height float64) {
	c.add(`<path class="axis" d="M%s %sH%s"/>`, n(left), n(height-bottom), n(width-right))
}

// path draws a line, with gaps; a single point is a dot.
func (c *canvas) path(class string, s Series, xs []float64, x, y func(float64) float64) {
	var d, area strings.Builder
	begin := -1
	flush := func(end int) {
		if begin < 0 {
			return
		}
		if end-begin == 1 {
			c.add(`<circle class="dot %s" cx="%s" cy="%s" r="2.5"/>`, class, n(x(xs[begin])), n(y(s.Y[begin])))
		} else if s.Area {
			fmt.Fprintf(&area, "M%s %s", n(x(xs[begin])), n(y(0)))
			for i := begin; i < end; i++ {
				fmt.Fprintf(&area, "L%s %s", n(x(xs[i])), n(y(s.Y[i])))
			}
			fmt.Fprintf(&area, "L%s %sZ", n(x(xs[end-1])), n(y(0)))
		}
		begin = -1
	}
	count := min(len(xs), len(s.Y))
	for i := range count {
		if !finite(s.Y[i]) {
			flush(i)
			continue
		}
		letter := "L"
		if begin < 0 {
			begin, letter = i, "M"
		}
		fmt.Fprintf(&d, "%s%s %s", letter, n(x(xs[i])), n(y(s.Y[i])))
	}
	flush(count)
	if area.Len() > 0 {
		c.add(`<path class="area %s" d="%s"/>`, class, area.String())
	}
	if d.Len() > 0 {
		c.add(`<path class="line %s" d="%s"/>`, class, d.String())
	}
}

// Column is one of the columns of [Columns]: a label below it and values, from the bottom up or side by side.
type Column struct {
	Label  string
	Title  string // when pointed at
	Values []float64
}

// Columns is a plot of columns.
type Columns struct {
	Label         string
	Width, Height float64
	Y             Axis
	Columns       []Column
	Stacked       bool     // else the values of a column stand side by side
	Classes       []string // of the values; nil is s0, s1, …
	Every         int      // only each so many columns has its label; 0 is as many as there is room for
}

// SVG draws it.
func (p Columns) SVG() template.HTML {
	c := open(p.Width, p.Height, "", p.Label)
	most := 0.0
	for _, col := range p.Columns {
		sum := 0.0
		for _, v := range col.Values {
			if finite(v) && v > 0 {
				sum += v
				most = max(most, v)
			}
		}
		if p.Stacked {
			most = max(most, sum)
		}
	}
	ticks := p.Y.ticks(most, 4)
	most = ticks[len(ticks)-1]
	w, h := p.Width-left-right, p.Height-top-bottom
	y := func(v float64) float64 { return top + h*(1-v/most) }
	c.grid(ticks, p.Y, p.Width, y)
	room := w / float64(max(1, len(p.Columns)))
	every := p.Every
	if every <= 0 {
		longest := 1
		for _, col := range p.Columns {
			longest = max(longest, len([]rune(col.Label)))
		}
		every = max(1, int(math.Ceil((float64(longest)*7+8)/room)))
	}
	for i, col := range p.Columns {
		at := left + room*float64(i)
		if i%every == 0 {
			c.text(at+room/2, p.Height-8, "tick", "middle", col.Label)
		}
		c.WriteString("<g>")
		if col.Title != "" {
			c.add("<title>%s</title>", html.EscapeString(col.Title))
		}
		p.column(c, col, at, room, y)
		c.WriteString("</g>")
	}
	c.axis(p.Width, p.Height)
	return c.close()
}

func (p Columns) column(c *canvas, col Column, at, room float64, y func(float64) float64) {
	pad := min(room*0.15, 8)
	wide := min(room-2*pad, 60)
	begin := at + (room-wide)/2
	base := 0.0
	for i, v := range col.Values {
		if !finite(v) || v <= 0 {
			continue
		}
		class := "s" + strconv.Itoa(i%Colours)
		if i < len(p.Classes) {
			class = p.Classes[i]
		}
		x, width, low := begin, wide, 0.0
		if p.Stacked {
			low = base
			base += v
		} else {
			width = wide / float64(len(col.Values))
			x += width * float64(i)
		}
		high := y(low + v)
		c.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, n(x), n(high), n(max(width-1, 1)), n(max(y(low)-high, 0.8)))
	}
}

// Cell is a part of a whole.
type Cell struct {
	Name  string
	Sub   string // below the name, where there is room
	Title string // when pointed at
	Class string
	Size  float64
}

// Treemap shows what a whole is made of, each part as large as its share of the area. Parts without size are left out.
// The largest stands top left.
func Treemap(label string, width, height float64, cells []Cell) template.HTML {
	c := open(width, height, " treemap", label)
	cells = slices.DeleteFunc(slices.Clone(cells), func(p Cell) bool { return !finite(p.Size) || p.Size <= 0 })
	slices.SortStableFunc(cells, func(a, b Cell) int {
		switch {
		case a.Size > b.Size:
			return -1
		case a.Size < b.Size:
			return 1
		}
		return 0
	})
	sizes := make([]float64, len(cells))
	total := 0.0
	for i, p := range cells {
		sizes[i] = p.Size
		total += p.Size
	}
	for i := range sizes {
		sizes[i] *= width * height / total
	}
	for i, r := range squarify(sizes, box{0, 0, width, height}) {
		c.cell(cells[i], r)
	}
	return c.close()
}

func (c *canvas) cell(p Cell, r box) {
	c.WriteString("<g>")
	if p.Title != "" {
		c.add("<title>%s</title>", html.EscapeString(p.Title))
	}
	c.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, p.Class, n(r.x+0.5), n(r.y+0.5), n(max(r.w-1, 0.5)), n(max(r.h-1, 0.5)))
	// About seven units a letter; what does not fit is not begun.
	if letters := int((r.w - 12) / 7.3); letters >= 4 && r.h >= 22 {
		c.text(r.x+7, r.y+17, "cell", "", cut(p.Name, letters))
		if r.h >= 40 && len([]rune(p.Sub)) <= letters {
			c.text(r.x+7, r.y+33, "cell sub", "", p.Sub)
		}
	}
	c.WriteString("</g>")
}

// cut keeps the end of a name, which tells paths apart.
func cut(s string, letters int) string {
	r := []rune(s)
	if len(r) <= letters {
		return s
	}
	return "…" + string(r[len(r)-letters+1:])
}

type box struct{ x, y, w, h float64 }

// squarify lays areas out in a box, rows of them along its shorter side, as square as they get (Bruls, Huizing and van
// Wijk, "Squarified treemaps", 2000). Areas are sorted, the largest first, and together as large as the box.
func squarify(areas []float64, b box) []box {
	out := make([]box, 0, len(areas))
	for len(areas) > 0 {
		side := min(b.w, b.h)
		if side <= 0 { // what is left is rounding
			for range areas {
				out = append(out, box{b.x, b.y, 0, 0})
			}
			break
		}
		count, sum := 1, areas[0]
		worst := ratio(areas[0], areas[0], sum, side)
		for count < len(areas) {
			next := sum + areas[count]
			w := ratio(areas[0], areas[count], next, side)
			if w > worst {
				break
			}
			count, sum, worst = count+1, next, w
		}
		thick := sum / side
		at := 0.0
		for _, a := range areas[:count] {
			long := a / thick
			if b.w >= b.h {
				out = append(out, box{b.x, b.y + at, thick, long})
			} else {
				out = append(out, box{b.x + at, b.y, long, thick})
			}
			at += long
		}
		if b.w >= b.h {
			b.x, b.w = b.x+thick, b.w-thick
		} else {
			b.y, b.h = b.y+thick, b.h-thick
		}
		areas = areas[count:]
	}
	return out
}

// ratio is the worst relation of sides in a row.
func ratio(largest, smallest, sum, side float64) float64 {
	s2, w2 := sum*sum, side*side
	return max(w2*largest/s2, s2/(w2*smallest))
}
