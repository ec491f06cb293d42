// SPDX-License-Identifier: Apache-2.0
//
// Training metrics as JSON lines: one object an update, appended, flushed at once.
#pragma once

#include <mor/core/error.hpp>
#include <mor/train/trainer.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>

namespace mor {

class MetricsFile {
public:
    /// Appends to the file, which is made if there is none. Throws IoError naming it.
    explicit MetricsFile(const std::filesystem::path& path)
        : name_{path.string()}, out_{path, std::ios::app} {
        check<IoError>(out_.is_open(), name_, ": cannot be opened for writing");
    }

    /// Throws IoError naming the file if the disk refuses.
    void write(const StepReport& report) {
        nlohmann::ordered_json line{{"step", report.step},
                                    {"loss", report.loss},
                                    {"gradient_norm", report.gradient_norm},
                                    {"learning_rate", report.learning_rate},
                                    {"tokens", report.tokens},
                                    {"flops", report.flops},
                                    {"seconds", report.seconds}};
        for (const LossTerm& term : report.losses) {
            line[std::string{term.name}] = term.value;
        }
        if (!report.active_share.empty()) {
            line["active_share"] = report.active_share;
        }
        if (report.routing) {
            line["routing"] = describe(*report.routing);
        }
        out_ << line.dump() << std::endl;
        check<IoError>(out_.good(), name_, ": cannot be written");
    }

private:
    static nlohmann::ordered_json describe(const RouterMetrics& metrics) {
        nlohmann::ordered_json json{{"dead_token_ratio", metrics.dead_token_ratio},
                                    {"max_violation", metrics.max_violation},
                                    {"load_entropy", metrics.load_entropy},
                                    {"depth_histogram", metrics.depth_histogram}};
        if (metrics.sampling_accuracy) {
            json["sampling_accuracy"] = *metrics.sampling_accuracy;
        }
        if (metrics.top_k_agreement) {
            json["top_k_agreement"] = *metrics.top_k_agreement;
        }
        for (const ScoreHistogram& histogram : metrics.scores) {
            json["scores"].push_back(
                {{"selected", histogram.selected}, {"unselected", histogram.unselected}});
        }
        return json;
    }

    std::string name_;
    std::ofstream out_;
};

}  // namespace mor
