/** The types that the pages share, for the checker (`tsc --checkJs`) alone: no page loads this file. */

// ---- a plan: the JSON of planner/plans/plan_json.py, never changed in place; keys not named here are kept

type Size = [width: number, height: number];
type Point = [x: number, y: number];
/** Left, top, right, bottom; of a region in pixels of the plan's image. */
type Box = [x1: number, y1: number, x2: number, y2: number];
/** size: height and width; rle: lengths of runs, the first one outside. */
type RegionMask = { size: [height: number, width: number]; rle: number[] };
type Region = {
  id: string; bbox_2d: Box; hint: string; negative_hint: string; start: number; end: number; mask: RegionMask | null;
  locked?: boolean; enabled?: boolean; editor?: { name?: string; color?: string };
};
type Plan = { version: number; image_size: Size; global_prompt: string; reasoning: string; regions: Region[]; [more: string]: any };
/** What the numbers of a pasted text count. */
type Coordinates = "auto" | "pixels" | "seen_pixels" | "relative_1000" | "relative_1" | "relative_1000_y_first";

// ---- what the region editor stores and knows

type About = {
  /** A person changed the plan, or kept it on purpose. */
  edited: boolean;
  /** Where it began. */
  origin: "upstream" | "pasted" | "drawn";
  /** The plan from upstream, or pasted, that the edits began with. */
  base: Plan | null;
  /** Mark of an offered plan that was not wanted. */
  declined: string;
  /** Drawn before an image was seen. */
  assumed_size: boolean;
};
/** How the editor shows things; changes no plan. */
type View = { dim: number; patch: number; snap: boolean; patches: boolean; expand: number; side: boolean };
type Stored = { plan: Plan | null; about: About; view: View };
type Follow = "until_edited" | "always" | "never";
type Changed = "plan" | "selection" | "view";
/** What the node said of its last run. */
type RunReport = { image_size: Size; source: string; upstream: Plan | null; warnings: string[] };
/** What common/ask.js asks of the server. */
type Ask = (question: string, data: object) => Promise<any>;
type EditorOptions = {
  value: string; ask: Ask; onChange: (value: string) => void; background?: string | null; follow?: Follow;
  onPlan?: () => void; onRun?: () => void; onLarge?: () => void;
};
/** text: on the button, for those that have one; menu: in the menu of regions, in place of the title; keys: as event names say them, "Ctrl+Shift+Z". */
type CommandWords = { title: string; text?: string; menu?: string; keys?: string[] };
/** run: false when it was not handled, the key then does what it does elsewhere; anywhere: not in the canvas and the list alone. */
type CommandDoes = { run: () => unknown; anywhere?: boolean; main?: boolean; inMenu?: boolean; can?: () => boolean; pressed?: () => boolean; shown?: () => boolean };
type Command = CommandWords & CommandDoes;
/** words: on the button, and its tooltip. */
type NoteAction = [words: string[], run: () => void];
type Note = { kind: "problem" | "warning" | "note"; text: string; actions: NoteAction[] };
type Editor = import("./editor/mount.js").Editor;
type EditorState = import("./editor/state.js").EditorState;
type CanvasView = import("./editor/canvas_view.js").CanvasView;

// ---- on the canvas

type Context = CanvasRenderingContext2D;
/** screen = image * scale + (x, y), in CSS pixels */
type ViewPort = { scale: number; x: number; y: number };
type Handle = "n" | "s" | "e" | "w" | "ne" | "nw" | "se" | "sw";
type Gesture =
  | { kind: "move"; from: Point; boxes: Map<string, Box>; key: string; moved: boolean; under: string[]; again: boolean }
  | { kind: "resize"; from: Point; id: string; box: Box; handle: Handle; key: string }
  | { kind: "band"; from: Point; start: Point }
  | { kind: "pan"; last: Point }
  | { kind: "pinch"; distance: number; middle: Point };
/** A region and its box on the screen. */
type ShownRegion = { region: Region; colour: string; box: Box; chosen: boolean };
/** band: the box being drawn, in pixels of the image; width and height of the canvas in CSS pixels */
type Scene = {
  regions: Region[]; size: Size; selection: string[]; view: View; port: ViewPort; image: HTMLImageElement | null;
  band: Box | null; cells: Record<string, number[]>; width: number; height: number;
};

// ---- the rule matrix; a name is a component ("main", "noise:r1"), all of a kind ("noise:*") or those of another region ("noise:other")

type Kind = { name: string; label: string; words: string; owner: "" | "region" | "reference" };
/** rules_for_page of attention/rules_page.py */
type RuleData = { kinds: Kind[]; auto: string };
type Phase = "before" | "after";
/** matrix_for_page of attention/rules_page.py */
type MatrixAnswer = {
  problem: string; text: string; names: string[]; named: string[]; cells: number; before: string[][] | null; after: string[][]; own_before: boolean; when: string;
};
/** index: its place, which gives its colour where the plan's is not known; absent: the plan does not have it */
type RuleRegion = { id: string; hint: string; colour?: string; index: number; absent: boolean; shown: boolean };
/** What the node around the matrix says. regions: null where no plan is known. */
type RuleContext = {
  widgets: { preset: string; family: string; switch: number; switch_step: number }; regions: { id: string; hint: string; colour?: string }[] | null;
};
type MatrixOptions = {
  value: string; ask: Ask; data: RuleData; context: RuleContext; open: boolean; onChange: (value: string) => void; onOpen: (open: boolean) => void;
};

// ---- elements, and ComfyUI

type Input = HTMLInputElement | HTMLTextAreaElement;
/** One region in the list, and its parts. */
type Row = { row: HTMLElement; name: HTMLElement; dot: HTMLElement; lock: HTMLElement; eye: HTMLElement };
type Child = string | Node | null | undefined | false;
interface Props extends Partial<GlobalEventHandlers> { [attribute: string]: any }
type ComfyWidget = { name: string; value: any; callback?: Function; [more: string]: any };
type ComfyInput = { name: string; type: string; link: unknown };
interface ComfyNode {
  constructor: any;
  widgets?: ComfyWidget[]; inputs?: ComfyInput[];
  addDOMWidget(name: string, type: string, root: HTMLElement, options: {
    getValue(): string; setValue(value: unknown): void; getMinHeight(): number; hideOnZoom: boolean; margin: number;
  }): ComfyWidget;
  [more: string]: any;
}
/** What a page may use of ComfyUI. */
type Host = { app: any; api: any };
