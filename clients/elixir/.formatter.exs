locals_without_parens = [signature: 1, description: 1, input: 1, input: 2, input: 3, output: 1, output: 2, output: 3]

[
  inputs: ["{mix,.formatter}.exs", "{config,lib,test,examples}/**/*.{ex,exs}"],
  line_length: 120,
  locals_without_parens: locals_without_parens,
  export: [locals_without_parens: locals_without_parens]
]
