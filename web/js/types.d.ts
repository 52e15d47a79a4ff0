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
  locked?: boolean; enabled?: boolean;
};
type Plan = { version: number; image_size: Size; global_prompt: string; reasoning: string; regions: Region[] };
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
type RunReport = { image_size: Size; source: string; upstream: Plan | null; warnings: string[]; question: string };
/** What common/ask.js asks of the server. */
type Ask = (question: string, data: object) => Promise<any>;
type EditorOptions = {
  value: string; ask: Ask; onChange: (value: string) => void; background?: string | null; follow?: Follow;
  onPlan?: () => void; onRun?: () => void;
};
/** text: on the button, for those that have one; keys: as event names say them, "Ctrl+Shift+Z"; anywhere: not in the canvas and the list alone. */
type Command = {
  title: string; text?: string; keys?: string[]; anywhere?: boolean; main?: boolean; can?: () => boolean; pressed?: () => boolean; shown?: () => boolean;
  /** false: not handled, the key does what it does elsewhere. */
  run: () => unknown;
};
type NoteAction = [text: string, tooltip: string, run: () => void];
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
type ShownRegion = { region: Region; index: number; box: Box; chosen: boolean };
/** band: the box being drawn, in pixels of the image; width and height of the canvas in CSS pixels */
type Scene = {
  regions: Region[]; size: Size; selection: string[]; view: View; port: ViewPort; image: CanvasImageSource | null;
  band: Box | null; cells: Record<string, number[]>; width: number; height: number;
};

// ---- the rule matrix; a name is a component ("main", "noise:r1") or all of a kind ("noise:*")

type Kind = { name: string; label: string; words: string; owner: "" | "region" | "reference" };
/** One row of signs for each kind. */
type Table = string[];
/** attention/rules_page.py */
type RuleData = {
  kinds: Kind[]; presets: Record<string, { before: Table | null; after: Table }>; auto: string;
  families: Record<string, { preset: string; switch: number; image_prompt: boolean }>;
};
/** "query|key" -> may see, in their order */
type Cells = Map<string, boolean>;
type Phase = "before" | "after";
type Matrix = { versioned: boolean; before: Cells | null; after: Cells };
/** What a row sees of a column: "x" all, "-" nothing, "o" only what belongs to its own region, "d" only what belongs to others. */
type Sign = "x" | "-" | "o" | "d";
/** What decides a cell: the preset's table, and the cells that a person set. */
type Rules = { kinds: Kind[]; table: Table; cells: Cells };
/** index: its place, which gives its colour; absent: the plan does not have it */
type RuleRegion = { id: string; hint: string; index: number; absent: boolean; shown: boolean };
/** What the node around the matrix says. when: which steps are before the switch; regions: null where no plan is known. */
type RuleContext = { preset: string; family: string; when: string; regions: { id: string; hint: string }[] | null };
type MatrixOptions = {
  value: string; data: RuleData; context: RuleContext; open: boolean; onChange: (value: string) => void; onOpen: (open: boolean) => void;
};

// ---- elements, and the host

// ---- signatures: what several functions take, or a long list of it

/** The value, or the nearest of the two. */
type Clamp = (value: number, low: number, high: number) => number;
type SharedMove = (boxes: Box[], dx: number, dy: number, size: Size) => [dx: number, dy: number];
type BoxResized = (box: Box, handle: Handle, dx: number, dy: number, size: Size) => Box;
type BoxBetween = (from: Point, to: Point, size: Size) => Box;
/** Of one axis: two places, and the side of the image. */
type Span = (low: number, high: number, side: number) => number[];
/** width and height of the canvas in CSS pixels */
type Fitted = (size: Size, width: number, height: number) => ViewPort;
type Zoomed = (view: ViewPort, factor: number, about: Point) => ViewPort;
type HandleAt = (box: Box, at: Point, reach: number) => Handle | null;
type LabelOf = (ctx: Context, region: Region, withHint: boolean, room: number) => { text: string; width: number };
type FillBox = (ctx: Context, box: Box, style: string) => void;
type DrawGrid = (ctx: Context, scene: Scene, frame: Box) => void;
type ChangeRegions = (plan: Plan, ids: string[], change: ChangeRegion) => Plan;
type PlanOfIds = (plan: Plan, ids: string[]) => Plan;
type PlanOfRegions = (plan: Plan, regions: Region[]) => Plan;
type Put = (plan: Plan, about: About, key?: string | null) => void;
type Nudge = (x: number, y: number, event: KeyboardEvent, state: EditorState) => void;
type Say = (kind: Note["kind"], text: string, ...actions: NoteAction[]) => unknown;
type WordsField = (key: "hint" | "negative_hint", label: string, title: string) => HTMLTextAreaElement;
type UpdateRow = (parts: Row, region: Region, index: number) => void;
type SetEdge = (edge: Handle, place: number, value: number) => void;
type Heading = (scope: "row" | "col", name: string) => HTMLElement;
type AddWidget = (node: ComfyNode, name: string, host: Host) => ComfyWidget;
type AddValueWidget = (
  app: any, node: ComfyNode, name: string, type: string, root: HTMLElement, page: ValueHolder, getMinHeight: () => number,
) => ComfyWidget;
type MakeButton = (text: string, tooltip: string, onclick: (event: MouseEvent) => void, props?: Props) => HTMLButtonElement;
type SetAttribute = (target: Element, name: string, value: any) => void;
type SelectNext = (by: 1 | -1, also?: boolean) => boolean;
type ShowRules = (rules: Rules, names: string[], regions: RuleRegion[]) => void;
type PointAt = (row: number, column: number, still?: boolean) => void;
type After = (target: any, name: string, call: (this: any, ...args: any[]) => void) => void;
/** by < 0: earlier */
type Reordered = (plan: Plan, id: string, by: number) => Plan;
type SetText = (target: Element, text: string) => void;
type SetValue = (field: Input, value: string) => void;
/** text: empty when nothing runs; share: 0..1 where it is known */
type SetProgress = (text: string, share?: number | null) => void;
type BoxMoved = (box: Box, dx: number, dy: number, size: Size) => Box;
type BoxChanged = (box: Box, by: number, size: Size) => Box;
type PlanAtSize = (plan: Plan, ...size: Size) => Plan;
type ChangePlan = (plan: Plan) => Plan;
type ChangeRegion = (region: Region) => Region;
/** key: steps that have the same one are one step to undo */
type EditPlan = (change: ChangePlan, key?: string | null) => void;
type EditRegions = (ids: string[], change: ChangeRegion, key?: string | null) => void;
type SetBoxes = (ids: string[], boxOf: (region: Region) => Box, key?: string | null) => void;
type Drag = (gesture: Exclude<Gesture, { kind: "pan" | "pinch" }>, at: Point, point: Point) => void;
type MoveBoxes = (boxes: Map<string, Box>, dx: number, dy: number, key: string) => void;
type DrawBox = (ctx: Context, box: Box, width: number, style: string) => void;
type DrawLabel = (ctx: Context, shown: ShownRegion, scene: Scene, hints: boolean) => void;
type DrawRegion = (ctx: Context, shown: ShownRegion, scene: Scene) => void;
/** Left, top, width, height. */
type Sides = (box: Box) => [x: number, y: number, width: number, height: number];
type MaskPicture = (mask: RegionMask, index: number) => HTMLCanvasElement;
type Input = HTMLInputElement | HTMLTextAreaElement;
/** One region in the list, and its parts. */
type Row = { row: HTMLElement; name: HTMLElement; dot: HTMLElement; lock: HTMLElement; eye: HTMLElement };
/** What holds a widget's value. */
type ValueHolder = { value: string; setValue(value: string): void };
type Field = (label: string, title: string, take: (text: string) => void) => HTMLTextAreaElement;
type NumberField = (label: string, title: string, props: Props, shows: (region: Region) => number, take: (value: number) => void) => HTMLInputElement;
/** value null: what the preset has */
type PaintCell = (query: string, key: string, value: boolean | null, stroke: string) => void;

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
