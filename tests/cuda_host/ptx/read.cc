/*
 * Reads a file of PTX, as nvcc writes it. Statements end with a semicolon or, of labels, with a colon; what stands in
 * them becomes slots: registers, constants, and names of memory, whose addresses are constants too.
 */
#include "tests/cuda_host/ptx/ptx.h"

#include <cctype>
#include <cstdlib>
#include <fstream>

using namespace ptx;

namespace {

struct word {
    std::string text;
    int line;
};

/* Punctuation stands alone, all else runs on. */
std::vector<word> words_of(const std::string &file) {
    const std::string marks = "{}[]()<>|,;:=@!+";
    std::vector<word> words;
    std::ifstream stream(file);
    if (!stream) cuda_host_die("%s: no such file", file.c_str());
    std::string text;
    for (int line = 1; std::getline(stream, text); line++) {
        bool joins = false;
        for (char c : text.substr(0, text.find("//"))) {
            bool is_mark = marks.find(c) != std::string::npos, is_space = isspace((unsigned char)c);
            if (joins && !is_mark && !is_space)
                words.back().text += c;
            else if (!is_space)
                words.push_back({std::string(1, c), line});
            joins = !is_mark && !is_space;
        }
    }
    return words;
}

const meanings &all_meanings() {
    static const meanings table = [] {
        meanings made;
        add_arithmetic(&made);
        add_memory(&made);
        return made;
    }();
    return table;
}

size_t bytes_of_type(const std::string &type) {
    size_t digit = type.find_first_of("0123456789");
    return digit == std::string::npos ? 1 : (size_t)atoi(type.c_str() + digit) / 8; /* .pred has none */
}

class reader {
  public:
    reader(const std::string &name, program *into) : file(name), whole(into), words(words_of(name)) {}
    void read_all() {
        while (at < words.size()) read_top();
    }

  private:
    std::string file;
    program *whole;
    std::vector<word> words;
    size_t at = 0;
    std::map<std::string, uint64_t> addresses; /* of the file's variables; shared memory's begins at 0 */
    /* Of the kernel that is being read: */
    kernel *k = nullptr;
    std::map<std::string, uint16_t> slots;
    std::map<std::string, uint64_t> argument_at;
    std::map<std::string, int> labels;
    std::map<int, std::string> branches; /* instructions, and where they go */

    [[noreturn]] void refuse(const std::string &what) {
        int line = at < words.size() ? words[at].line : 0;
        cuda_host_die("%s:%d: %s", file.c_str(), line, what.c_str());
    }
    const std::string &peek() {
        if (at >= words.size()) refuse("ends too early");
        return words[at].text;
    }
    std::string next() {
        std::string text = peek();
        at++;
        return text;
    }
    bool take(const std::string &text) {
        bool is_there = peek() == text;
        at += is_there;
        return is_there;
    }
    void want(const std::string &text) {
        if (!take(text)) refuse("'" + peek() + "' stands where '" + text + "' is wanted");
    }
    void skip_to(const std::string &text) {
        while (next() != text) {
        }
    }
    size_t number() {
        if (!isdigit((unsigned char)peek()[0])) refuse("'" + peek() + "' is no number");
        return (size_t)strtoull(next().c_str(), nullptr, 10);
    }

    void read_top();
    void read_variable(bool is_shared);
    void read_kernel();
    void read_arguments();
    void read_bounds();
    void read_body();
    void read_registers();
    void read_statement();
    void finish_kernel();

    uint16_t add_slot(uint64_t value);
    uint16_t constant(uint64_t value);
    uint16_t value_of(const std::string &text);
    void read_operand(std::vector<uint16_t> *operands, instruction *made);
    void add(const std::string &name, const std::vector<uint16_t> &operands, instruction made);
};

/* ---- outside of kernels ---- */

void reader::read_top() {
    if (take(".version") || take(".target") || take(".address_size"))
        next();
    else if (take(".extern") || take(".visible"))
        return;
    else if (take(".shared"))
        read_variable(true);
    else if (take(".global") || take(".const"))
        read_variable(false);
    else if (take(".entry"))
        read_kernel();
    else
        refuse("'" + peek() + "' is not understood");
}

/* .align N .b8 NAME[N] = {...}; of shared memory only what the launch sizes: NAME[]. */
void reader::read_variable(bool is_shared) {
    want(".align");
    next();
    want(".b8");
    std::string name = next();
    want("[");
    if (is_shared) {
        want("]"); /* with a size it would lie beside what the launch gives */
        addresses[name] = 0;
    } else {
        std::vector<unsigned char> bytes(number());
        want("]");
        want("=");
        want("{");
        for (size_t i = 0; !take("}"); i++) { /* zeros at the end are left out */
            bytes.at(i) = (unsigned char)number();
            (void)take(",");
        }
        whole->data.push_back(std::move(bytes));
        addresses[name] = reinterpret_cast<uint64_t>(whole->data.back().data());
    }
    want(";");
}

/* ---- kernels ---- */

void reader::read_kernel() {
    std::string name = next();
    if (whole->kernels.count(name)) refuse("there is a kernel of this name already");
    k = &whole->kernels[name];
    k->name = name;
    k->file = file;
    k->of = whole;
    k->start.assign(N_TOLD, slot{});
    slots = {
        {"%tid.x",    TID_X   },
        {"%ntid.x",   NTID_X  },
        {"%ctaid.x",  CTAID_X },
        {"%ctaid.y",  CTAID_Y },
        {"%nctaid.x", NCTAID_X},
        {"%nctaid.y", NCTAID_Y}
    };
    argument_at.clear();
    labels.clear();
    branches.clear();
    read_arguments();
    read_bounds();
    read_body();
    finish_kernel();
}

/* .param [.align N] .TYPE NAME [N], ... */
void reader::read_arguments() {
    size_t end = 0;
    want("(");
    while (!take(")")) {
        want(".param");
        size_t align = take(".align") ? number() : 0;
        size_t n_bytes = bytes_of_type(next());
        std::string name = next();
        if (take("[")) {
            n_bytes *= number();
            want("]");
        }
        if (!align) align = n_bytes;
        end = (end + align - 1) / align * align;
        argument_at[name] = end;
        k->argument_at.push_back(end);
        k->argument_bytes.push_back(n_bytes);
        end += n_bytes;
        (void)take(",");
    }
}

/* [.maxntid X, 1, 1] [.minnctapersm N]: what __launch_bounds__ promised of launches, and asks of the assembler. */
void reader::read_bounds() {
    k->most_threads = 0;
    if (take(".maxntid")) {
        k->most_threads = number();
        while (take(",")) k->most_threads *= number();
    }
    if (take(".minnctapersm")) (void)number();
}

void reader::read_body() {
    want("{");
    for (int depth = 1; depth > 0;) {
        if (take("{"))
            depth++;
        else if (take("}"))
            depth--;
        else if (take(".reg"))
            read_registers();
        else if (take(".pragma"))
            skip_to(";");
        else if (at + 1 < words.size() && words[at + 1].text == ":") {
            labels[next()] = (int)k->code.size();
            want(":");
        } else
            read_statement();
    }
}

/* .reg .TYPE %r<N>; or .reg .TYPE %name; */
void reader::read_registers() {
    next();
    std::string name = next();
    const uint64_t nobody_wrote = UINT64_MAX; /* NaN, of either width */
    if (take("<")) {
        size_t n = number();
        for (size_t i = 0; i < n; i++) slots[name + std::to_string(i)] = add_slot(nobody_wrote);
        want(">");
    } else
        slots[name] = add_slot(nobody_wrote);
    want(";");
}

uint16_t reader::add_slot(uint64_t value) {
    if (k->start.size() > UINT16_MAX) refuse("too many registers and constants");
    k->start.emplace_back();
    put(k->start.back(), value);
    return (uint16_t)(k->start.size() - 1);
}

uint16_t reader::constant(uint64_t value) {
    std::string name = "=" + std::to_string(value);
    auto found = slots.find(name);
    return found != slots.end() ? found->second : slots[name] = add_slot(value);
}

/* 0fHEX and 0dHEX are the bits of a number with a fraction. */
uint16_t reader::value_of(const std::string &text) {
    auto found = slots.find(text);
    if (found != slots.end()) return found->second;
    if (argument_at.count(text)) return constant(argument_at[text]);
    if (addresses.count(text)) return constant(addresses[text]);
    char *end = nullptr;
    bool is_fraction = text[0] == '0' && (text[1] == 'f' || text[1] == 'd');
    uint64_t value = is_fraction      ? strtoull(text.c_str() + 2, &end, 16)
                     : text[0] == '-' ? (uint64_t)strtoll(text.c_str(), &end, 10)
                                      : strtoull(text.c_str(), &end, 10);
    if (*end) refuse("'" + text + "' is not understood");
    return constant(value);
}

/* A value, several in {}, or an address in []. */
void reader::read_operand(std::vector<uint16_t> *operands, instruction *made) {
    if (take("[")) {
        operands->push_back(value_of(next()));
        if (take("+")) made->offset = (int32_t)strtol(next().c_str(), nullptr, 10);
        want("]");
    } else if (take("{")) {
        while (!take("}")) {
            operands->push_back(value_of(next()));
            (void)take(",");
        }
    } else
        operands->push_back(value_of(next()));
}

void reader::add(const std::string &name, const std::vector<uint16_t> &operands, instruction made) {
    auto found = all_meanings().find(name);
    bool is_known = found != all_meanings().end() && operands.size() == (size_t)found->second.n_operand;
    if (!is_known)
        cuda_host_die("%s:%d: %s with %zu operands is not known", file.c_str(), made.line, name.c_str(),
                      operands.size());
    made.act = found->second.act;
    std::copy(operands.begin(), operands.end(), made.operand);
    k->code.push_back(made);
}

/* [@[!]GUARD] NAME OPERANDS; a guarded branch is one instruction, any other has one in front that steps over it. */
void reader::read_statement() {
    instruction made = {};
    made.line = words[at].line;
    bool is_guarded = take("@"), is_negated = is_guarded && take("!");
    std::vector<uint16_t> guard, operands;
    if (is_guarded) guard.push_back(value_of(next()));
    std::string name = next();
    if (name == "bra" || name == "bra.uni") {
        branches[(int)k->code.size()] = next();
        want(";");
        add(is_negated ? "@!" : is_guarded ? "@" : "bra", guard, made);
        return;
    }
    if (is_guarded) {
        made.jump = 2;
        add(is_negated ? "@" : "@!", guard, made);
    }
    bool unpacks = name == "mov.b64" && peek() == "{", packs = false;
    while (!take(";")) {
        packs |= name == "mov.b64" && !operands.empty() && peek() == "{";
        read_operand(&operands, &made);
        (void)(take(",") || take("|"));
    }
    add(name + (unpacks ? " {}=" : packs ? " {}" : ""), operands, made);
}

void reader::finish_kernel() {
    add("ret", {}, {});
    for (const auto &[from, label] : branches) {
        if (!labels.count(label)) refuse(k->name + " branches to " + label + ", which is not there");
        k->code[(size_t)from].jump = labels[label] - from;
    }
}

} // namespace

void ptx::read(const std::string &file, program *into) { reader(file, into).read_all(); }
