//! Every text of the page, in English and in Chinese. What the page does not know beforehand stays as it is: names of
//! tensors and operators, and the sentences of a spec or of a cause, which are English.

use align_check_simulators::place::Status;

use super::super::text::xml;
use super::super::view;
use crate::outcome::Verdict;

/// A text in both languages; `{0}`, `{1}`, ... are the places of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) en: &'static str,
    pub(super) zh: &'static str,
}

macro_rules! table {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        $(pub(super) const $name: Words = Words { en: $en, zh: $zh };)*
        #[cfg(test)]
        const TABLE: &[Words] = &[$($name),*];
    };
}

table! {
    SETTING: "Model {0} ({1}); {2}; compared with {3}", "模型 {0}（{1}）；{2}；对照 {3}";
    SAMPLES: "inputs: {0}", "输入样本：{0}";
    GENERATED: "inputs: {0}, generated from seed {1}", "输入样本：{0}，由种子 {1} 生成";
    AGAINST_EXACT: "the exact reference", "精确参考";
    AGAINST_RUN: "the recorded fake-quant run {0}", "录制的伪量化运行 {0}";
    AGAINST_RECORDING: "the target's recording {0}", "目标的录制结果 {0}";
    SHA: "SHA-256 of the model: {0}", "模型的 SHA-256：{0}";
    VERSION: "align-check {0}", "由 align-check {0} 生成";
    MISSING_RUN: "The recorded run lacks these tensors; the exact reference stands in for them:", "录制的运行缺少下列张量，由精确参考代替：";
    MISSING_RECORDING: "Not compared, because the recording lacks them:", "录制结果缺少下列张量，未比较：";
    UNSUPPORTED: "Unsupported: the target cannot run this model:", "不支持：该目标无法运行此模型：";
    ASSUMED: "Assumed by the importer", "导入时的假定";

    DIFFER: "layers that differ: {0} of {1}", "不一致的层：{1} 层中有 {0} 层";
    NO_ELEMENT: "no element differs; layers: {0}", "没有任何元素不同；层数：{0}";
    NO_LAYER: "no layer is misaligned; layers: {0}", "没有一层不一致；层数：{0}";
    FIRST: "first: {0}", "最先：{0}";
    WORST: "worst: {0}, {1}", "最差：{0}，{1}";
    WEAKEST: "weakest grade: {0}", "最弱证据等级：{0}";
    MAX_LSB: "max {0} LSB", "最大 {0} LSB";
    MAX_UNIT: "max {0} in the tensor's unit", "最大 {0}（张量自身单位）";

    NAV_GRAPH: "Network", "网络图";
    NAV_BARS: "Rates", "比率";
    NAV_HEAT: "Channels", "通道";
    NAV_CAUSES: "Causes", "原因";
    NAV_DRIFT: "Drift", "漂移";
    NAV_PLAN: "Plan", "部署方案";
    NAV_LAYERS: "Layers", "各层";
    NAV_OUTPUTS: "Outputs", "输出";

    GRIDS: "FIRST: the model's grid is not the chip's. No rounding rule can repair that; retrain or requantize the model on the chip's grid, or accept this cost:", "首先：模型的量化网格与芯片不同。任何舍入规则都无法弥补；请在芯片的网格上重新训练或重新量化，或接受以下代价：";
    BIASES: "The model's bias steps are not the chip's: its integer accumulators add biases in steps of input scale times weight scale. Export them with that scale, or accept this cost:", "模型的偏置步长与芯片不同：其整数累加器以“输入比例×权重比例”为步长相加偏置。请以该比例导出偏置，或接受以下代价：";
    TIMES: "{0} × {1} (for example {2})", "{0} × {1}（例如 {2}）";
    COST: "up to {0} LSB; on average {1} of the elements; layers: {2}", "最大 {0} LSB；平均 {1} 的元素；层数：{2}";

    GRAPH: "The network, coloured by verdict", "网络图，按结论着色";
    GRAPH_HINT: "Numbers count the layers in graph order; a box leads to its layer, a resting pointer shows its name.", "数字为图中层的顺序；点击方框跳到该层，悬停显示名称。";
    FIRST_MARK: "first layer that differs", "最先不一致的层";
    NOT_COMPARED: "not compared", "未比较";
    NO_LAYERS: "No layer was compared.", "没有比较任何层。";

    ISOLATED: "Each layer on its own (fed with the reference's inputs): share of differing elements", "逐层独立（输入取自参考）：不同元素的比例";
    ACCURACY: "Accuracy", "准确率";
    INTERRUPTED: "Interrupted after {0} of {1} inputs: all of this is of these.", "在 {1} 个输入中的 {0} 个之后被中断：以下内容仅涉及这些输入。";
    CUMULATIVE: "Run freely (fed with the simulated outputs of the layers before): share of differing elements", "自由运行（输入取自前面各层的模拟输出）：不同元素的比例";
    SHARES: "What the differing elements are, each layer on its own", "不同元素的构成（逐层独立）";
    LOG_SCALE: "logarithmic scale; no bar: no element differs", "对数刻度；无柱：没有元素不同";
    PART_NOISE: "within the noise floor", "噪声范围内";
    PART_TIE: "tie", "恰在两码中间";
    PART_SATURATED: "saturation", "饱和";
    PART_OTHER: "other", "其他";
    PART_UNKNOWN: "not told apart", "无法区分";
    HISTOGRAM: "All layers: differing elements by difference in LSB", "所有层：不同元素按 LSB 差值分布";
    HISTOGRAM_ONE: "Differing elements by difference in LSB", "不同元素按 LSB 差值分布";
    HISTOGRAM_UNIT: "Differing elements by difference in the tensor's unit", "不同元素按差值分布（张量自身单位）";

    HEAT: "Differing elements by channel, each layer on its own", "各通道的不同元素（逐层独立）";
    HEAT_HINT: "A row is a layer, a cell a channel; where a layer has more than {0} channels, a cell is several of them and shows the worst.", "每行一层，每格一个通道；通道多于 {0} 个的层，每格合并若干通道并显示其中最差者。";
    HEAT_CAPPED: "Shown: the {0} worst of {1} layers that differ.", "只显示 {1} 个不同的层中最差的 {0} 层。";
    HEAT_NONE: "share of differing elements:", "不同元素的比例：";
    CHANNELS: "{0} ch", "{0} 通道";

    CAUSES: "Causes", "原因";
    LAYERS_WITH: "layers: {0}", "层数：{0}";
    NO_CAUSE: "No layer needs one: nothing is misaligned.", "没有层不一致，无需说明原因。";

    DRIFTED: "{0} of {1} codes differ when the target runs on its own results, {2} of them at the outputs.", "目标在自身结果上运行时，{1} 个码中有 {0} 个不同，其中 {2} 个在输出处。";
    DRIFT_NOISE: "Of the fake-quant model itself in float32: {0}, {1} of them at the outputs.", "伪量化模型自身以 float32 运行时：{0} 个不同，其中 {1} 个在输出处。";
    DRIFT_NOISE_LAYERS: "Of the fake-quant model itself in float32: {0}.", "伪量化模型自身以 float32 运行时：{0} 个不同。";
    NOT_DRIFTED: "That is not above the model's own noise: the target has not drifted.", "不高于模型自身的噪声：目标没有漂移。";
    TRACE: "The worst output element is {0} of sample {1}, {2} LSB off. Layers that introduce differences: {3}; traced: {4}, each alone in the place of the reference's output.", "最差的输出元素为样本 {1} 的 {0}，相差 {2} LSB。引入差异的层：{3}；已追踪 {4} 层，每次仅以该层的输出代替参考输出。";
    TRACE_INTRODUCES: "elements it makes differ", "该层引入的不同元素";
    TRACE_MOVES: "moves that element by (LSB)", "使该元素移动（LSB）";
    TRACE_OUTPUTS: "output elements that differ", "不同的输出元素";
    DRIFT_LAYER: "introduced here: {0}; propagated: {1}", "本层引入：{0}；由前层传来：{1}";
    DRIFT_GROWS: "amplified here: {0} (inputs up to {1} LSB off)", "本层放大：{0}（输入最多相差 {1} LSB）";

    PLAN: "Plan: what the target makes of the model's quantizers", "部署方案：目标如何处理模型的量化器";
    PLAN_SAME: "Quantizers that are where the model has them: {0}; others: {1}.", "与模型位置相同的量化器：{0}；其他：{1}。";
    PLAN_NONE: "The target has the model's quantizers where the model has them.", "目标的量化器与模型的位置相同。";
    TENSOR: "tensor", "张量";
    STATUS: "status", "状态";
    AT: "on the target", "目标上的张量";
    RULE: "rule", "规则";
    WHY: "why", "理由";
    STATUS_SAME: "same", "相同";
    STATUS_MOVED: "moved", "移动";
    STATUS_EXTRA: "extra on target", "目标多出";
    STATUS_MISSING: "missing on target", "目标缺少";
    STATUS_MERGED: "merged", "合并";
    STATUS_FLOAT: "float", "浮点";
    STATUS_REWRITTEN: "rewritten", "改写";

    LAYERS: "Layers", "各层";
    LAYERS_HINT: "Worst first. A line opens; the heads sort.", "最差的在前。点击一行展开；点击表头排序。";
    FIND: "Find a layer", "查找层";
    VERDICT: "verdict", "结论";
    LAYER: "layer", "层";
    COL_ISOLATED: "on its own", "独立";
    COL_CUMULATIVE: "run freely", "自由运行";
    CAUSE: "cause", "原因";
    GRADE: "grade", "证据等级";
    EXPLAINS: "{0}: explains {1} of {2}", "{0}：解释 {2} 个中的 {1} 个";
    RULES: "rules", "规则";
    GRID: "grid", "网格";
    BIAS: "bias", "偏置";
    ABSENT: "no such tensor", "无此张量";
    TRIED: "explained by one decision alone", "单一因素可解释的元素";
    WITNESS: "witness", "例证元素";
    AT_ELEMENT: "sample {0}, element {1}", "样本 {0}，元素 {1}";
    ACCUMULATOR: "accumulator {0}", "累加器 {0}";
    MULTIPLIER: "multiplier {0}", "乘数 {0}";
    BEFORE: "before rounding {0}", "舍入前 {0}";
    EXPECTED: "expected {0}, got {1}", "期望 {0}，得到 {1}";
    PLAN_HERE: "plan", "部署方案";
    ELEMENTS: "elements", "元素";
    SHARE_OF: "{0} of {1} differ ({2}), {3}", "{1} 个中有 {0} 个不同（{2}），{3}";
    ALL_AGREE: "all {0} agree", "全部 {0} 个相同";
    AMPLIFIED: "{0} times as many differ when run freely", "自由运行时不同元素为 {0} 倍";
    SIGNAL: "cosine {0}, SQNR {1} dB", "余弦 {0}，SQNR {1} dB";
    STEP: "one LSB is {0}", "1 LSB 为 {0}";

    OUTPUTS: "Outputs, run freely", "输出（自由运行）";
    FLIPS: "largest element is another one in {0} of {1} samples", "{1} 个样本中有 {0} 个的最大元素改变";
    UNKNOWNS: "Not known about this target", "该目标的未知之处";
    EVIDENCE: "Evidence: layers by the weakest grade of their rules", "证据：按各层规则的最弱等级统计";
    GRADE_RECORDED: "recorded", "录制验证";
    GRADE_SOURCE: "source", "源码";
    GRADE_DOCUMENTED: "documented", "文档";
    GRADE_HYPOTHESIS: "hypothesis", "推测";

    FLOOR: "Noise floor", "噪声基线";
    FLOOR_AGREE: "The recorded fake-quant run and exact arithmetic agree in all {0} codes fed layer by layer.", "录制的伪量化运行与精确算术逐层输入时，全部 {0} 个码相同。";
    FLOOR_TIES: "The recorded fake-quant run and exact arithmetic differ in {0} of {1} codes fed layer by layer, all within {2} LSB of a tie: float32 summation order.", "录制的伪量化运行与精确算术逐层输入时，{1} 个码中有 {0} 个不同，都在距中点 {2} LSB 之内：float32 求和顺序所致。";
    FLOOR_FLOATS: "The recorded fake-quant run and exact arithmetic differ in {0} of {1} codes fed layer by layer, all in unquantized tensors, and no further than float32 sums may be.", "录制的伪量化运行与精确算术逐层输入时，{1} 个中有 {0} 个不同，都在未量化的张量中，且不超过 float32 求和的误差。";
    FLOOR_BEYOND: "The recorded fake-quant run and exact arithmetic differ in {0} of {1} codes fed layer by layer, {2} of them further from a tie than float32 summation order explains (up to {3} LSB): the run was made with other arithmetic, other inputs or another model.", "录制的伪量化运行与精确算术逐层输入时，{1} 个码中有 {0} 个不同，其中 {2} 个距中点的距离超出 float32 求和顺序所能解释的范围（最大 {3} LSB）：该运行使用了不同的算术、输入或模型。";
    FLOOR_FREE: "Run freely they differ in {0} codes ({1}): no target's cumulative drift below that means anything.", "自由运行时有 {0} 个码不同（{1}）：任何目标低于此值的累积漂移都没有意义。";
    FLOOR_FREE_NONE: "Run freely they agree in every code.", "自由运行时所有码相同。";
}

/// Names of causes, and what each means: sentences of causes are English, so a Chinese page says in its own words what
/// kind of cause it is. A name that is not in the list is shown as it is.
const CAUSE_NAMES: [(&str, &str, &str); 31] = [
    (
        "accumulator",
        "累加器",
        "累加器的位宽、溢出方式或累加顺序与模型不同。",
    ),
    (
        "add scales",
        "加法的尺度",
        "两个输入对齐到输出尺度时使用的常数或中间舍入不同。",
    ),
    (
        "alpha constant",
        "斜率常数",
        "LeakyReLU/PReLU 的斜率在芯片上被量化为另一个常数。",
    ),
    (
        "average divisor",
        "平均的除数",
        "平均池化的除数不同（是否计入填充，或以倒数相乘）。",
    ),
    (
        "average rounding",
        "平均的舍入",
        "平均池化在除法之后的舍入方式不同。",
    ),
    (
        "bias scale",
        "偏置的尺度",
        "偏置的步长不是“输入比例×权重比例”，存入芯片时再次舍入。",
    ),
    (
        "bias width",
        "偏置的位宽",
        "偏置以较窄的整数保存，或在相加前移位、饱和。",
    ),
    (
        "concat gain",
        "拼接的增益",
        "拼接的各输入在芯片上先换算到同一尺度。",
    ),
    ("dequantize", "反量化", "整数换算为实数的方式不同。"),
    ("division", "除法", "量化时除以比例与乘以其倒数的结果不同。"),
    (
        "dynamic quantizer",
        "动态量化器",
        "运行时计算的比例或零点与模型不同。",
    ),
    (
        "double rounding",
        "两次舍入",
        "芯片先后舍入多次，模型只舍入一次。",
    ),
    (
        "fixed point",
        "定点格式",
        "芯片的定点格式（整数位、小数位、舍入、溢出）与模型不同。",
    ),
    (
        "float",
        "浮点计算",
        "芯片以浮点计算该层，只与浮点求和顺序有关。",
    ),
    (
        "fused clamp",
        "融合的截断",
        "融合的激活（ReLU、ReLU6）在带零点的码上截断的界限不同。",
    ),
    (
        "LUT table",
        "查找表",
        "芯片以查找表计算非线性函数，表项的舍入或插值不同。",
    ),
    (
        "multiplication scales",
        "乘法的尺度",
        "逐元素乘法的比例合并或舍入方式不同。",
    ),
    (
        "multiplier",
        "乘数",
        "重量化的乘数以有限位数表示，与精确的比例不同。",
    ),
    ("op rule", "算子规则", "该算子在芯片上有自己的整数算法。"),
    (
        "placement",
        "量化器位置",
        "芯片上的量化器不在模型的位置：多出、缺少或被合并。",
    ),
    (
        "quantizer",
        "量化器",
        "芯片的量化网格（步长、零点、位宽或码表）不是模型的。",
    ),
    ("requantize", "重量化", "从累加器到输出码的换算与模型不同。"),
    (
        "rescale",
        "重缩放",
        "同一张量从一个尺度换算到另一个尺度的方式不同。",
    ),
    (
        "resize coordinates",
        "缩放的坐标",
        "缩放的坐标变换或插值权重的精度不同。",
    ),
    (
        "rounding",
        "舍入",
        "只有恰在两码中间的值舍入方向不同，或以截断代替舍入。",
    ),
    ("saturation", "饱和", "相邻的两个乘积在 16 位中相加时饱和。"),
    ("unknown", "未知", "没有任何单一因素或组合能解释。"),
    ("unknown rule", "未知规则", "录制的结果不符合任何已知规则。"),
    (
        "vector tail",
        "向量尾部",
        "不足一个向量的尾部元素使用另一种算法。",
    ),
    ("weight codes", "权重码", "芯片上的权重码与模型导出的不同。"),
    (
        "zero point",
        "零点",
        "零点在舍入之前或之后相加，或在填充处的作用不同。",
    ),
];

impl Words {
    /// As HTML.
    pub(super) fn html(self) -> String {
        self.with(&[])
    }

    /// As HTML with data, which is HTML already, in its places.
    pub(super) fn with(self, data: &[&str]) -> String {
        both(&fill(self.en, data), &fill(self.zh, data))
    }

    /// As the texts of a picture.
    pub(super) fn svg(self, attributes: &str, data: &[&str]) -> String {
        format!(
            "<text class=\"en\" {attributes}>{}</text><text class=\"zh\" {attributes}>{}</text>",
            fill(self.en, data),
            fill(self.zh, data)
        )
    }
}

/// One text in both languages; the style sheet hides one.
fn both(en: &str, zh: &str) -> String {
    format!("<span class=\"en\">{en}</span><span class=\"zh\" lang=\"zh\">{zh}</span>")
}

/// Puts data in the places of a text.
fn fill(text: &str, data: &[&str]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((place, after)) = after.split_once('}') else {
            break;
        };
        out.push_str(before);
        let datum = place.parse().ok().and_then(|at: usize| data.get(at));
        out.push_str(datum.unwrap_or(&""));
        rest = after;
    }
    out + rest
}

/// Several pieces as one list.
pub(super) fn join(pieces: &[String]) -> String {
    pieces.join("<span class=\"en\">; </span><span class=\"zh\">；</span>")
}

/// A verdict.
pub(super) fn verdict(verdict: Verdict) -> String {
    both(verdict.text(), view::look(verdict).zh)
}

/// A verdict in a tooltip, where no style sheet can choose.
pub(super) fn verdict_plain(verdict: Verdict) -> String {
    format!("{} · {}", verdict.text(), view::look(verdict).zh)
}

/// What becomes of a quantizer.
pub(super) fn status(status: Status) -> Words {
    match status {
        Status::Same => STATUS_SAME,
        Status::Moved => STATUS_MOVED,
        Status::Extra => STATUS_EXTRA,
        Status::Missing => STATUS_MISSING,
        Status::Merged => STATUS_MERGED,
        Status::Float => STATUS_FLOAT,
        Status::Rewritten => STATUS_REWRITTEN,
    }
}

/// A grade; the weak ones stand out.
pub(super) fn grade(grade: &str) -> String {
    let (words, class) = match grade {
        "recorded" => (GRADE_RECORDED, "strong"),
        "source" => (GRADE_SOURCE, "strong"),
        "documented" => (GRADE_DOCUMENTED, "told"),
        "hypothesis" => (GRADE_HYPOTHESIS, "weak"),
        other => return said(other),
    };
    format!("<span class=\"{class}\">{}</span>", words.html())
}

/// The name of a cause; of several, each.
pub(super) fn cause(name: &str) -> String {
    let zh: Vec<String> = single(name)
        .map(|one| known(one).map_or_else(|| xml(one), |(zh, _)| zh.to_owned()))
        .collect();
    both(&xml(name), &zh.join("、"))
}

/// What kind of cause it is, on a Chinese page; the sentence behind it says which values, in English.
pub(super) fn meaning(name: &str) -> String {
    let zh: Vec<&str> = single(name)
        .filter_map(|one| known(one).map(|(_, zh)| zh))
        .collect();
    both("", &zh.concat())
}

fn single(names: &str) -> impl Iterator<Item = &str> {
    names.split(" and ").flat_map(|some| some.split(", "))
}

fn known(cause: &str) -> Option<(&'static str, &'static str)> {
    let known = CAUSE_NAMES.iter().find(|(en, ..)| *en == cause);
    known.map(|(_, zh, meaning)| (*zh, *meaning))
}

/// A name of the model or of a spec.
pub(super) fn name(text: &str) -> String {
    format!("<code>{}</code>", xml(text))
}

/// A sentence that exists in English only.
pub(super) fn said(text: &str) -> String {
    format!("<span class=\"said\" lang=\"en\">{}</span>", xml(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<&str> {
        let mut found: Vec<&str> = text
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn both_languages_say_the_same() {
        for words in TABLE {
            assert_eq!(places(words.en), places(words.zh), "{}", words.en);
            assert!(
                words.en.is_ascii() || words.en.contains('×'),
                "{}",
                words.en
            );
            let chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
            let only_data = words.zh == "{0} × {1}（例如 {2}）";
            assert!(only_data || words.zh.contains(chinese), "{}", words.zh);
            assert!(!words.zh.contains(" the "), "{}", words.zh);
        }
        for verdict in view::VERDICTS {
            assert_ne!(view::look(verdict).zh, verdict.text());
        }
    }

    #[test]
    fn several_causes_are_named_each() {
        let text = cause("rounding, bias width and zero point");
        assert!(text.contains(">rounding, bias width and zero point<"));
        assert!(text.contains(">舍入、偏置的位宽、零点<"), "{text}");
        assert!(cause("<b>").contains("&lt;b&gt;"));
        let text = meaning("rounding and bias width");
        assert!(
            text.contains("舍入方向不同") && text.contains("较窄的整数"),
            "{text}"
        );
    }

    #[test]
    fn data_is_no_place() {
        assert_eq!(fill("{1}-{0}", &["{1}", "b"]), "b-{1}");
        assert_eq!(fill("a{b", &[]), "a{b");
    }
}
