package main

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart shows one system: speeds above, waits below, and a column for each pattern.
type chart struct {
	title  string
	panels [2][]panel
}

// A panel is one set of axes. Both are logarithmic.
type panel struct {
	title, y string
	lines    []line
	unit     func(float64) string
}

// A line is a contender.
type line struct {
	name string
	dots plotter.XYs
}

// looks are what lines look like, by their names, in the order of the legend.
var looks = []struct {
	name  string
	color color.Color
	width vg.Length
	glyph draw.GlyphDrawer
}{
	{"serial", color.RGBA{0, 0x58, 0xa8, 255}, 2, draw.CircleGlyph{}},
	{"unwrapped", color.RGBA{0x3f, 0xa9, 0xe0, 255}, 1.2, draw.RingGlyph{}},
	{"by hand", color.RGBA{0xd0, 0x45, 0, 255}, 2, draw.BoxGlyph{}},
	{"GORM", color.RGBA{0, 0x8a, 0x62, 255}, 1, draw.TriangleGlyph{}},
	{"bun", color.RGBA{0xb8, 0x50, 0x90, 255}, 1, draw.PlusGlyph{}},
	{"ent", color.RGBA{0x80, 0x70, 0x10, 255}, 1, draw.CrossGlyph{}},
}

// chart collects what is to be drawn of a system.
func (found *results) chart(system setting) chart {
	c := chart{title: system.system() + ": one row, 1 to 256 callers"}
	for _, p := range patterns {
		speeds := panel{title: string(p), y: "updates/s", unit: short}
		waits := panel{title: string(p), y: "p99 of the wait", unit: func(ns float64) string { return span(time.Duration(ns)) }}
		for _, look := range looks {
			s, w := line{name: look.name}, line{name: look.name}
			for _, r := range found.many {
				if !r.is(system, p) || r.workload.keys != hotRow {
					continue
				}
				if e := r.named(look.name); e != nil && len(e.samples) > 0 {
					x := float64(r.workload.callers)
					s.dots = append(s.dots, plotter.XY{X: x, Y: e.speed()})
					w.dots = append(w.dots, plotter.XY{X: x, Y: float64(e.wait(p99))})
				}
			}
			speeds.lines, waits.lines = append(speeds.lines, s), append(waits.lines, w)
		}
		c.panels[0], c.panels[1] = append(c.panels[0], speeds), append(c.panels[1], waits)
	}
	return c
}

// draw writes the curves of all systems.
func (found *results) draw(folder string) (err error) {
	for _, s := range found.systems() {
		var svg bytes.Buffer
		if err := found.chart(s).draw(&svg); err != nil {
			return err
		}
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, curvesOf(s)), svg.Bytes(), 0o644))
	}
	return err
}

// curvesOf names the file.
func curvesOf(s setting) string {
	return "curves-" + strings.ReplaceAll(strings.ToLower(s.system()), " ", "-") + ".svg"
}

const (
	width, height = 780, 500 // points
	strip         = 40       // the part of it above the axes, for the title and the legend
)

// draw writes the chart as SVG. The background is white, whatever is behind.
func (c chart) draw(w io.Writer) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	svg := vgsvg.New(width, height)
	all := draw.New(svg)
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	var rows [][]*plot.Plot
	for _, panels := range c.panels {
		row, err := plots(panels)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	c.legend(draw.Crop(all, 12, -12, height-strip, 0))
	tiles := draw.Tiles{Rows: len(rows), Cols: len(rows[0]), PadX: 14, PadY: 10,
		PadLeft: 8, PadRight: 12, PadBottom: 8, PadTop: strip}
	canvases := plot.Align(rows, tiles, all)
	for i, row := range rows {
		for j, p := range row {
			p.Draw(canvases[i][j])
		}
	}
	var text bytes.Buffer
	if _, err := svg.WriteTo(&text); err != nil {
		return err
	}
	_, err := strings.NewReplacer(
		"font-family:Liberation Sans", "font-family:Liberation Sans,Arial,Helvetica,sans-serif", // who has not the one has another
		"font-variant:normal;font-weight:normal;font-style:normal;", "", // is meant anyhow
	).WriteString(w, text.String())
	return err
}

// legend writes the title and, below it, the legend, side by side.
func (c chart) legend(on draw.Canvas) {
	title := plot.NewLegend().TextStyle
	title.Font.Size, title.Color = 13, color.Black
	on.FillText(title, vg.Point{X: on.Min.X, Y: on.Max.Y - 16}, c.title)
	for i, look := range looks {
		l := plot.NewLegend()
		l.Left, l.Top, l.TextStyle.Font.Size = true, true, 11
		ink, dots := styles(look.name)
		l.Add(look.name, &plotter.Line{LineStyle: ink}, &plotter.Scatter{GlyphStyle: dots})
		l.Draw(draw.Crop(on, vg.Length(i)*115, 0, 0, -20))
	}
}

// plots makes a row of plots, with the same axes for all.
func plots(panels []panel) (row []*plot.Plot, err error) {
	least, most := math.Inf(1), 0.0
	for _, one := range panels {
		for _, l := range one.lines {
			for _, dot := range l.dots {
				if dot.Y > 0 {
					least, most = min(least, dot.Y), max(most, dot.Y)
				}
			}
		}
	}
	if most == 0 {
		return nil, errors.New("there is nothing to draw")
	}
	for _, one := range panels {
		p := plot.New()
		p.Title.Text, p.Y.Label.Text, p.X.Label.Text = one.title, one.y, "callers"
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = callerTicks(), decades(least, most, one.unit)
		grid := plotter.NewGrid()
		grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
		p.Add(grid)
		for _, l := range one.lines {
			if err := add(p, l); err != nil {
				return nil, err
			}
		}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 1, 256, least/1.3, most*1.3
		row = append(row, p)
	}
	return row, nil
}

// add draws a line, without the dots that a logarithmic axis has no place for.
func add(p *plot.Plot, l line) (err error) {
	var dots plotter.XYs
	for _, dot := range l.dots {
		if dot.Y > 0 {
			dots = append(dots, dot)
		}
	}
	if len(dots) == 0 {
		return nil
	}
	ink, points, err := plotter.NewLinePoints(dots)
	if err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	ink.LineStyle, points.GlyphStyle = styles(l.name)
	p.Add(ink, points)
	return nil
}

func styles(name string) (draw.LineStyle, draw.GlyphStyle) {
	for _, look := range looks {
		if look.name == name {
			return draw.LineStyle{Color: look.color, Width: look.width}, draw.GlyphStyle{Color: look.color, Radius: 3, Shape: look.glyph}
		}
	}
	return draw.LineStyle{}, draw.GlyphStyle{}
}

func callerTicks() (ticks plot.ConstantTicks) {
	for _, w := range workloads {
		if w.keys == hotRow {
			ticks = append(ticks, plot.Tick{Value: float64(w.callers), Label: w.String()})
		}
	}
	return ticks
}

// decades marks the powers of ten.
func decades(least, most float64, unit func(float64) string) (ticks plot.ConstantTicks) {
	for power := math.Floor(math.Log10(least)); power <= math.Ceil(math.Log10(most)); power++ {
		ticks = append(ticks, plot.Tick{Value: math.Pow(10, power), Label: unit(math.Pow(10, power))})
	}
	return ticks
}
