package plot_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/senbonzakura/senbonzakura/examples/partiald/internal/plot"
)

type rect struct {
	class      string
	x, y, w, h float64
}

// read parses a picture, which must be well formed, and returns its rectangles and texts.
func read(t *testing.T, svg template.HTML) (rects []rect, texts []string, label string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return rects, texts, label
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			get := map[string]string{}
			for _, a := range tok.Attr {
				get[a.Name.Local] = a.Value
				if a.Name.Local == "style" {
					t.Errorf("a style inline, which the policy of pages refuses: %s", a.Value)
				}
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("%s=%s", a.Name.Local, a.Value)
				}
			}
			switch tok.Name.Local {
			case "svg":
				label = get["aria-label"]
				if get["role"] != "img" {
					t.Error("the picture is not one for those who do not see it")
				}
			case "rect":
				f := func(k string) float64 {
					v, err := strconv.ParseFloat(get[k], 64)
					if err != nil {
						t.Fatal(err)
					}
					return v
				}
				rects = append(rects, rect{get["class"], f("x"), f("y"), f("width"), f("height")})
			}
		case xml.CharData:
			texts = append(texts, string(tok))
		}
	}
}

// The parts of a treemap fill it, do not overlap, and are as large as they should be.
func TestTreemap(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		var cells []plot.Cell
		total := 0.0
		for i := range 1 + r.IntN(60) {
			size := math.Exp(r.Float64() * 6)
			total += size
			cells = append(cells, plot.Cell{Name: fmt.Sprintf("file%d", i), Class: fmt.Sprintf("c%d", i), Size: size})
		}
		const w, h = 700.0, 300.0
		rects, _, _ := read(t, plot.Treemap("parts", w, h, append(cells, plot.Cell{Name: "nothing", Size: 0}, plot.Cell{Size: math.NaN()})))
		if len(rects) != len(cells) {
			t.Fatalf("round %d: %d rectangles of %d parts", round, len(rects), len(cells))
		}
		for i, a := range rects {
			if a.x < 0 || a.y < 0 || a.x+a.w > w+0.2 || a.y+a.h > h+0.2 {
				t.Errorf("round %d: %+v is outside", round, a)
			}
			k, err := strconv.Atoi(a.class[1:])
			if err != nil {
				t.Fatal(err)
			}
			want := cells[k].Size / total * w * h
			if got := (a.w + 1) * (a.h + 1); math.Abs(got-want) > 0.02*want+0.2*(a.w+a.h+2) {
				t.Errorf("round %d: %s has an area of %.0f, want %.0f", round, a.class, got, want)
			}
			for _, b := range rects[:i] {
				if a.x+a.w > b.x+0.2 && b.x+b.w > a.x+0.2 && a.y+a.h > b.y+0.2 && b.y+b.h > a.y+0.2 {
					t.Errorf("round %d: %+v and %+v overlap", round, a, b)
				}
			}
		}
	}
}

// What names and labels have in them is text.
func TestEscaped(t *testing.T) {
	t.Parallel()
	const evil = `"><script>alert(1)</script>&`
	axis := plot.Axis{Label: func(float64) string { return evil }}
	for name, svg := range map[string]template.HTML{
		"treemap": plot.Treemap(evil, 900, 300, []plot.Cell{{Name: evil, Sub: evil, Title: evil, Class: "s0", Size: 1}}),
		"lines":   plot.Lines{Label: evil, Width: 300, Height: 100, X: []float64{1, 2}, XTicks: []plot.Tick{{1, evil}}, Y: axis, Series: []plot.Series{{Y: []float64{1, 2}}}}.SVG(),
		"columns": plot.Columns{Label: evil, Width: 300, Height: 100, Y: axis, Columns: []plot.Column{{Label: evil, Title: evil, Values: []float64{1}}}}.SVG(),
	} {
		if strings.Contains(string(svg), "<script") {
			t.Errorf("%s: %s", name, svg)
		}
		if _, texts, label := read(t, svg); label != evil || !strings.Contains(strings.Join(texts, ""), evil) {
			t.Errorf("%s: label %q, texts %q", name, label, texts)
		}
	}
}

// Whatever the numbers, the picture is one.
func TestOdd(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	for _, ys := range [][]float64{nil, {0}, {1}, {nan}, {nan, 1, nan, 2, 3, nan}, {inf, -1}, {0, 0, 0}, {1e300, 1e-300}, {-5, -6}} {
		var xs []float64
		var cols []plot.Column
		for i, v := range ys {
			xs = append(xs, float64(i))
			cols = append(cols, plot.Column{Label: "x", Values: []float64{v, v}})
		}
		for _, bytes := range []bool{false, true} {
			read(t, plot.Lines{Width: 300, Height: 100, X: xs, Y: plot.Axis{Bytes: bytes}, Series: []plot.Series{{Y: ys, Area: true}}}.SVG())
			for _, stacked := range []bool{false, true} {
				read(t, plot.Columns{Width: 300, Height: 100, Columns: cols, Stacked: stacked, Y: plot.Axis{Bytes: bytes}}.SVG())
			}
		}
		read(t, plot.Treemap("", 100, 100, []plot.Cell{{Size: 1e300}, {Size: 1e-300}}))
	}
}

// A column is as high as its value says.
func TestColumns(t *testing.T) {
	t.Parallel()
	p := plot.Columns{Width: 400, Height: 238, Columns: []plot.Column{{Label: "a", Values: []float64{50, 25}}, {Label: "b", Values: []float64{100, 0}}}}
	rects, _, _ := read(t, p.SVG())
	if len(rects) != 3 || math.Abs(rects[0].h-100) > 0.2 || math.Abs(rects[1].h-50) > 0.2 || math.Abs(rects[2].h-200) > 0.2 {
		t.Errorf("side by side: %+v", rects)
	}
	p.Stacked = true
	rects, _, _ = read(t, p.SVG())
	if len(rects) != 3 || math.Abs(rects[0].h-100) > 0.2 || math.Abs(rects[1].h-50) > 0.2 || math.Abs(rects[1].y+rects[1].h-rects[0].y) > 0.2 {
		t.Errorf("stacked: %+v", rects)
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	for most, want := range map[float64]string{0: "[0 0.25 0.5 0.75 1]", 7: "[0 2 4 6 8]", 100: "[0 25 50 75 100]", 0.013: "[0 0.005 0.01 0.015]", 1: "[0 0.25 0.5 0.75 1]"} {
		if got := fmt.Sprint(plot.Ticks(most, 4)); got != want {
			t.Errorf("%v: got %s, want %s", most, got, want)
		}
	}
}
